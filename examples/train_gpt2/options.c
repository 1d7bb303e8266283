/* SPDX-License-Identifier: Apache-2.0
 * The trainer's command line. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char options_usage[] =
    "usage: mpirun -n RANKS train_gpt2 --root DIR [options] TEXT...\n"
    "\n"
    "Trains a small GPT-2 on the bytes of the TEXT files, from the newest good checkpoint of the\n"
    "series DIR, or from the beginning if there is none.\n"
    "\n"
    "  --root DIR            the series of checkpoints\n"
    "  --steps N             train up to this step (100)\n"
    "  --size tiny|small     of the model: 35 thousand parameters or 850 thousand (tiny)\n"
    "  --tp N                ranks that share one copy of the weights (1); the number of ranks "
    "and\n"
    "                        of attention heads (tiny: 4, small: 8) must be multiples of it\n"
    "  --batch N             sequences of a step, of all ranks together (8)\n"
    "  --seed N              of a fresh run (1)\n"
    "  --every N             save every N steps (0: not for this reason)\n"
    "  --every-s S           save every S seconds (0: not)\n"
    "  --mtbf S              save as often as a job that fails every S seconds should (0: not)\n"
    "  --keep-last K         keep the newest K checkpoints (0: all)\n"
    "  --max-shard-size SIZE of the checkpoints' files (5GB)\n"
    "  --nonblocking         go on training while a checkpoint is written\n"
    "  --save-first          save before the first step, too\n"
    "  --delay-ms N          wait so long in every step\n"
    "  --logits FILE         at the end: those of the text's first tokens, as raw floats\n"
    "\n"
    "Exit status: 0 done, or stopped by `allshard stop`; 75 stopped by a signal or near the job's\n"
    "end of time, to be started again; 1 failed; 2 the command line is wrong.\n";

/* A number in [least, most]; 0 if the word is none. */
static int read_number(const char *word, double least, double most, double *out)
{
    char *end;
    errno = 0;
    *out = strtod(word, &end);
    return end != word && *end == '\0' && errno == 0 && *out >= least && *out <= most;
}

/* The same, whole. */
static int read_count(const char *word, int64_t least, int64_t most, int64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoll(word, &end, 10);
    return end != word && *end == '\0' && errno == 0 && *out >= least && *out <= most;
}

static int read_option(options *o, int letter, const char *word)
{
    int64_t n = 0;
    int good = 1;
    switch (letter) {
    case 'r':
        o->root = word;
        return *word != '\0';
    case 'z':
        o->size = word;
        return strcmp(word, "tiny") == 0 || strcmp(word, "small") == 0;
    case 's':
        return read_count(word, 0, 1000000000, &o->steps);
    case 't':
        good = read_count(word, 1, 1024, &n);
        o->tp = (int)n;
        return good;
    case 'b':
        good = read_count(word, 1, 65536, &n);
        o->batch = (int)n;
        return good;
    case 'S':
        good = read_count(word, 0, INT64_MAX, &n);
        o->seed = (uint64_t)n;
        return good;
    case 'e':
        return read_count(word, 0, INT64_MAX, &o->every_steps);
    case 'E':
        return read_number(word, 0, 1e9, &o->every_s);
    case 'f':
        return read_number(word, 0, 1e12, &o->mtbf_s);
    case 'k':
        return read_count(word, 0, INT64_MAX, &o->keep_last);
    case 'm':
        o->max_shard_size = word;
        return *word != '\0';
    case 'n':
        o->nonblocking = 1;
        return 1;
    case 'F':
        o->save_first = 1;
        return 1;
    case 'd':
        return read_count(word, 0, 1000000, &o->delay_ms);
    default: /* 'l' */
        o->logits = word;
        return *word != '\0';
    }
}

enum options_result options_read(options *o, int argc, char **argv, int loud)
{
    static const struct option known[] = {{"root", required_argument, NULL, 'r'},
                                          {"size", required_argument, NULL, 'z'},
                                          {"steps", required_argument, NULL, 's'},
                                          {"tp", required_argument, NULL, 't'},
                                          {"batch", required_argument, NULL, 'b'},
                                          {"seed", required_argument, NULL, 'S'},
                                          {"every", required_argument, NULL, 'e'},
                                          {"every-s", required_argument, NULL, 'E'},
                                          {"mtbf", required_argument, NULL, 'f'},
                                          {"keep-last", required_argument, NULL, 'k'},
                                          {"max-shard-size", required_argument, NULL, 'm'},
                                          {"nonblocking", no_argument, NULL, 'n'},
                                          {"save-first", no_argument, NULL, 'F'},
                                          {"delay-ms", required_argument, NULL, 'd'},
                                          {"logits", required_argument, NULL, 'l'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    *o = (options){.size = "tiny", .steps = 100, .tp = 1, .batch = 8, .seed = 1};
    int letter, at = 0;
    opterr = loud;
    while ((letter = getopt_long(argc, argv, "h", known, &at)) != -1) {
        if (letter == 'h') {
            return OPTIONS_HELP;
        }
        if (letter == '?') {
            return OPTIONS_BAD;
        }
        if (!read_option(o, letter, optarg)) {
            if (loud) {
                fprintf(stderr, "train_gpt2: --%s does not take \"%s\"\n", known[at].name, optarg);
            }
            return OPTIONS_BAD;
        }
    }
    o->texts = argv + optind;
    o->text_count = argc - optind;
    if (!o->root || o->text_count == 0) {
        if (loud) {
            fprintf(stderr, "train_gpt2: %s\n",
                    o->root ? "name a text to learn from, such as README.md"
                            : "--root is missing: the folder for the checkpoints");
        }
        return OPTIONS_BAD;
    }
    return OPTIONS_GOOD;
}
