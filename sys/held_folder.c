/* held_folder.c - the lock says whether the owner lives, the link that there was one.
 *
 * Who removes a directory holds its lock, and looks for the link after taking it: of two that find
 * the same one, the second sees that it is gone. */
#include "sys/held_folder.h"

#include "sys/neighbour.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char mark[] = ".held";

static int open_folder(const char *path)
{
    return open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Held once, on this host since it booted. */
static bool is_marked(int folder)
{
    char boot[NEIGHBOUR_BOOT_BYTES], found[NEIGHBOUR_BOOT_BYTES];
    neighbour_boot(boot);
    const ssize_t n = readlinkat(folder, mark, found, sizeof(found));
    return n > 0 && (size_t)n == strlen(boot) && memcmp(found, boot, (size_t)n) == 0;
}

static void put_mark(int folder)
{
    char boot[NEIGHBOUR_BOOT_BYTES];
    neighbour_boot(boot);
    if (boot[0] != '\0')
        (void)!symlinkat(boot, folder, mark); /* without it, nobody else removes the directory */
}

/* Locked; what somebody still writes into may stay, and is marked again for the next one. */
static void remove_locked(const char *path, int folder)
{
    if (file_remove_temporary(path) != STATUS_OK && folder >= 0)
        put_mark(folder);
}

static void remove_if_left(const char *path)
{
    struct stat info;
    const int folder = open_folder(path);
    if (folder < 0)
        return;
    if (fstat(folder, &info) == 0 && info.st_uid == geteuid() &&
        flock(folder, LOCK_EX | LOCK_NB) == 0 && is_marked(folder))
        remove_locked(path, folder);
    close(folder);
}

static void remove_leftovers(const char *parent)
{
    char path[FILE_PATH_BYTES];
    DIR *entries = opendir(parent);
    if (entries == NULL)
        return;
    for (const struct dirent *entry; (entry = readdir(entries)) != NULL;)
        if (strncmp(entry->d_name, FILE_TEMPORARY_PREFIX, strlen(FILE_TEMPORARY_PREFIX)) == 0 &&
            snprintf(path, sizeof(path), "%s/%s", parent, entry->d_name) < (int)sizeof(path))
            remove_if_left(path);
    closedir(entries);
}

enum status held_folder_make(struct held_folder *folder, const char *parent, struct error *error)
{
    remove_leftovers(parent);
    struct held_folder made = {.lock = -1};
    const enum status status = file_make_temporary_in(parent, made.path, error);
    if (status != STATUS_OK)
        return status;
    made.lock = open_folder(made.path);
    /* Who looks whether it is left has the lock for an instant. */
    if (made.lock >= 0 && flock(made.lock, LOCK_EX) == 0)
        put_mark(made.lock);
    *folder = made;
    return STATUS_OK;
}

void held_folder_remove(struct held_folder *folder)
{
    if (folder->path[0] == '\0')
        return;
    remove_locked(folder->path, folder->lock);
    if (folder->lock >= 0)
        close(folder->lock);
    *folder = (struct held_folder){0};
}
