/* SPDX-License-Identifier: Apache-2.0
 * Runs files, or all files of folders, through a fuzz harness once: how the corpora are part of
 * the ordinary tests, with any compiler. An input that breaks something ends the program.
 */
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include "fuzz.h"

static long count;

static bool run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0) {
        perror(path);
        return false;
    }
    long size = ftell(f);
    rewind(f);
    /* Exactly as large as the input, so that a sanitizer sees a read past its end. */
    uint8_t *data = malloc(size > 0 ? (size_t)size : 1);
    bool good = size >= 0 && data && fread(data, 1, (size_t)size, f) == (size_t)size;
    (void)fclose(f);
    if (good) {
        (void)LLVMFuzzerTestOneInput(data, (size_t)size);
        count++;
    } else {
        perror(path);
    }
    free(data);
    return good;
}

static bool run_folder(const char *path)
{
    DIR *dir = opendir(path);
    bool good = dir != NULL;
    const struct dirent *entry;
    while (good && (entry = readdir(dir))) {
        char name[4096];
        (void)snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        good = entry->d_name[0] == '.' || run_file(name);
    }
    if (!dir) {
        perror(path);
    } else {
        (void)closedir(dir);
    }
    return good;
}

int main(int argc, char **argv)
{
    bool good = argc > 1;
    /* The shortest input there is, which no corpus need name. */
    (void)LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc && good; i++) {
        struct stat status;
        good = stat(argv[i], &status) == 0 &&
               (S_ISDIR(status.st_mode) ? run_folder(argv[i]) : run_file(argv[i]));
    }
    printf("%ld inputs\n", count);
    return good && count > 0 ? 0 : 1;
}
