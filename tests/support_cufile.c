/* SPDX-License-Identifier: Apache-2.0 */
#include "support_cufile.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"

static void look_up(void *library, void *member, const char *symbol)
{
    void *found = dlsym(library, symbol);
    if (!found) {
        (void)fprintf(stderr, "libcufile.so.0 has no %s; is it the simulated one?\n", symbol);
        exit(1);
    }
    memcpy(member, &found, sizeof found);
}

const sim_cufile_controls *simulated_cufile(void)
{
    static sim_cufile_controls controls;
    static void *library;
    if (library) {
        return &controls;
    }
    library = dlopen("libcufile.so.0", RTLD_NOW);
    if (!library) {
        (void)fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
#define LOOK_UP(name) look_up(library, &controls.name, "sim_file_" #name);
    SIM_FILE_FUNCTIONS(LOOK_UP)
#undef LOOK_UP
    return &controls;
}

static struct {
    bool udev;
    const char *osrelease;
    int (*fstatat)(int folder, const char *path, struct stat *out, int flags);
    int (*openat)(int folder, const char *path, int flags, mode_t mode);
} played;

static int play_fstatat(int folder, const char *path, struct stat *out, int flags)
{
    if (strcmp(path, "/run/udev") != 0) {
        return played.fstatat(folder, path, out, flags);
    }
    if (!played.udev) {
        errno = ENOENT;
        return -1;
    }
    return played.fstatat(folder, "/", out, flags);
}

static int play_openat(int folder, const char *path, int flags, mode_t mode)
{
    if (played.osrelease && strcmp(path, "/proc/sys/kernel/osrelease") == 0) {
        path = played.osrelease;
    }
    return played.openat(folder, path, flags, mode);
}

void play_machine(bool udev, const char *osrelease)
{
    if (as_sys_table.fstatat != play_fstatat) {
        played.fstatat = as_sys_table.fstatat;
        as_sys_table.fstatat = play_fstatat;
    }
    if (as_sys_table.openat != play_openat) {
        played.openat = as_sys_table.openat;
        as_sys_table.openat = play_openat;
    }
    played.udev = udev;
    played.osrelease = osrelease;
}
