/* SPDX-License-Identifier: Apache-2.0
 * tool_seal FILE: gives a JSON object in a file its checksum, in place. So scripts make manifests by
 * hand that are whole and yet wrong.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "commit/seal.h"

int main(int argc, char **argv)
{
    json_t *tree = argc == 2 ? json_load_file(argv[1], 0, NULL) : NULL;
    as_buffer text = AS_BUFFER_INIT;
    bool good = tree && as_seal(tree, &text, NULL) == AS_OK;
    FILE *out = good ? fopen(argv[1], "w") : NULL;
    good = out && fwrite(text.data, 1, text.size, out) == text.size;
    good = out && fclose(out) == 0 && good;
    if (!good) {
        (void)fprintf(stderr, "tool_seal: cannot seal %s\n", argc == 2 ? argv[1] : "nothing");
    }
    as_buffer_free(&text);
    json_decref(tree);
    return good ? 0 : 1;
}
