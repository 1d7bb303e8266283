/* SPDX-License-Identifier: Apache-2.0
 * The small files beside the weights, with which Hugging Face's transformers opens the folder. */
#ifndef TRAIN_GPT2_HF_FILES_H
#define TRAIN_GPT2_HF_FILES_H

#include "params.h"

#include <allshard.h>

/* Adds config.json, generation_config.json, tokenizer_config.json, vocab.json and merges.txt to the
 * state. An allshard code. */
int hf_files_add(allshard_state *state, const config *c);

#endif
