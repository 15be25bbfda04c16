/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Feeds a fuzz target the files of its corpus, so that they are tested by every compiler, without libFuzzer.
 *
 * Usage: replay-TARGET DIRECTORY… */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "fuzz.h"

#define INPUT_SIZE_MAX (1024 * 1024)

DEFINE_POINTER_CLEANUP(FILE, fclose)
DEFINE_POINTER_CLEANUP(DIR, closedir)

static int replay_file(const char *directory, const char *name) {
        _cleanup_(fclosep) FILE *file = NULL;
        _cleanup_(freep) char *path = NULL;
        _cleanup_(freep) uint8_t *data = malloc(INPUT_SIZE_MAX);

        if (!data || asprintf(&path, "%s/%s", directory, name) < 0)
                return -ENOMEM;

        file = fopen(path, "re");
        if (!file)
                return -errno;

        size_t size = fread(data, 1, INPUT_SIZE_MAX, file);
        if (ferror(file))
                return -EIO;

        /* A copy of just this size lets sanitizers see reads beyond it. */
        _cleanup_(freep) uint8_t *input = malloc(size > 0 ? size : 1);
        if (!input)
                return -ENOMEM;

        memcpy(input, data, size);
        (void) LLVMFuzzerTestOneInput(input, size);
        return 0;
}

static int replay_directory(const char *path, size_t *n_files) {
        _cleanup_(closedirp) DIR *directory = opendir(path);
        const struct dirent *entry;
        int r;

        if (!directory)
                return -errno;

        while ((errno = 0, entry = readdir(directory))) {
                if (entry->d_name[0] == '.')
                        continue;

                r = replay_file(path, entry->d_name);
                if (r < 0)
                        return r;
                ++*n_files;
        }

        return -errno;
}

int main(int argc, char *argv[]) {
        size_t n_files = 0;

        for (int i = 1; i < argc; i++) {
                int r = replay_directory(argv[i], &n_files);
                if (r < 0) {
                        (void) fprintf(stderr, "%s: %s\n", argv[i], strerror(-r));
                        return EXIT_FAILURE;
                }
        }

        (void) printf("%zu inputs\n", n_files);
        return n_files > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
