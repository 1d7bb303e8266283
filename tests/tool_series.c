/* SPDX-License-Identifier: Apache-2.0
 * Lays tiny checkpoints of a series, for scripts:
 *
 *     tool_series ROOT NAME STEP [KEY=VALUE …] [, NAME STEP …]
 *
 * time=SECONDS since the epoch (default: now), loss=NUMBER or another metric's name, tag=1,
 * foreign=1 (no manifest), damaged=1.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint_folder.h"
#include "support_series.h"

static void set(book_one *one, char *text)
{
    char *value = strchr(text, '=');
    must(value != NULL, text);
    *value++ = '\0';
    if (strcmp(text, "time") == 0) {
        one->time_ms = (int64_t)(strtod(value, NULL) * 1000);
    } else if (strcmp(text, "tag") == 0) {
        one->tagged = true;
    } else if (strcmp(text, "foreign") == 0) {
        one->foreign = true;
    } else if (strcmp(text, "damaged") == 0) {
        one->damaged = true;
    } else {
        one->metric = text;
        one->value = strtod(value, NULL);
    }
}

int main(int argc, char **argv)
{
    must(argc > 3, "arguments");
    (void)mkdir(argv[1], 0777);
    int root = open(argv[1], O_RDONLY | O_DIRECTORY);
    must(root >= 0, argv[1]);
    for (int i = 2; i + 1 < argc;) {
        as_error e = AS_ERROR_INIT;
        book_one one = {.id = i, .time_ms = (int64_t)time(NULL) * 1000};
        (void)snprintf(one.name, sizeof one.name, "%s", argv[i]);
        one.step = strtoll(argv[i + 1], NULL, 10);
        for (i += 2; i < argc && strcmp(argv[i], ",") != 0; i++) {
            set(&one, argv[i]);
        }
        i++;
        if (series_lay(root, argv[1], &one, &e) != AS_OK) {
            (void)fprintf(stderr, "%s\n", as_error_text(&e));
            return 1;
        }
        if (one.damaged) {
            series_damage(argv[1], one.name);
        }
    }
    return close(root);
}
