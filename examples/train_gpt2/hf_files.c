/* SPDX-License-Identifier: Apache-2.0
 * config.json and the tokenizer's files.
 *
 * GPT-2's tokenizer writes each byte as a printable character and merges frequent pairs. With no
 * merges at all each byte stays a token of its own; here its number is the byte. */
#include "hf_files.h"
#include "text.h"

#include <stdio.h>
#include <string.h>

/* The character that stands for a byte: itself if it is printable in Latin-1 and no space, else
 * one from 256 on, in the order of the bytes. */
static unsigned character_of(unsigned byte)
{
    unsigned next = 256;
    for (unsigned b = 0; b < 256; b++) {
        const int printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b != 0xad);
        if (b == byte) {
            return printable ? b : next;
        }
        next += !printable;
    }
    return 0;
}

/* {"!": 33, ...}: at most 20 bytes each. */
static void write_vocabulary(char *out, size_t room)
{
    size_t n = (size_t)snprintf(out, room, "{\n");
    for (unsigned b = 0; b < 256; b++) {
        const unsigned c = character_of(b);
        char name[3] = {(char)c, 0, 0};
        if (c >= 0x80) { /* as UTF-8 */
            name[0] = (char)(0xc0 | c >> 6);
            name[1] = (char)(0x80 | (c & 0x3f));
        }
        n += (size_t)snprintf(out + n, room - n, "  \"%s%s\": %u,\n",
                              c == '"' || c == '\\' ? "\\" : "", name, b);
    }
    snprintf(out + n, room - n, "  \"<|endoftext|>\": %d\n}\n", END_OF_TEXT);
}

static int add(allshard_state *state, const char *name, const char *content)
{
    return allshard_state_file(state, name, content, strlen(content));
}

int hf_files_add(allshard_state *state, const config *c)
{
    char settings[1024], vocabulary[256 * 20 + 64];
    snprintf(settings, sizeof settings,
             "{\n"
             "  \"architectures\": [\"GPT2LMHeadModel\"],\n"
             "  \"model_type\": \"gpt2\",\n"
             "  \"vocab_size\": %d,\n"
             "  \"n_positions\": %d,\n"
             "  \"n_embd\": %d,\n"
             "  \"n_layer\": %d,\n"
             "  \"n_head\": %d,\n"
             "  \"activation_function\": \"gelu_new\",\n"
             "  \"embd_pdrop\": %g,\n"
             "  \"resid_pdrop\": %g,\n"
             "  \"attn_pdrop\": 0.0,\n"
             "  \"layer_norm_epsilon\": 1e-05,\n"
             "  \"initializer_range\": 0.08,\n"
             "  \"tie_word_embeddings\": true,\n"
             "  \"bos_token_id\": %d,\n"
             "  \"eos_token_id\": %d,\n"
             "  \"torch_dtype\": \"float32\"\n"
             "}\n",
             c->vocabulary, c->context, c->width, c->layers, c->heads, c->dropout, c->dropout,
             END_OF_TEXT, END_OF_TEXT);
    write_vocabulary(vocabulary, sizeof vocabulary);
    char generation[128], tokenizer[512];
    snprintf(generation, sizeof generation,
             "{\n  \"bos_token_id\": %d,\n  \"eos_token_id\": %d\n}\n", END_OF_TEXT, END_OF_TEXT);
    snprintf(tokenizer, sizeof tokenizer,
             "{\n"
             "  \"tokenizer_class\": \"GPT2Tokenizer\",\n"
             "  \"add_prefix_space\": false,\n"
             "  \"bos_token\": \"<|endoftext|>\",\n"
             "  \"eos_token\": \"<|endoftext|>\",\n"
             "  \"unk_token\": \"<|endoftext|>\",\n"
             "  \"model_max_length\": %d\n"
             "}\n",
             c->context);
    int code = add(state, "config.json", settings);
    code = code ? code : add(state, "generation_config.json", generation);
    code = code ? code : add(state, "tokenizer_config.json", tokenizer);
    code = code ? code : add(state, "vocab.json", vocabulary);
    return code ? code : add(state, "merges.txt", "#version: 0.2\n");
}
