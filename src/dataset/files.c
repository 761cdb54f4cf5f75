/* Finding training files. */
#include "dataset/files.h"

#include "base/memory.h"
#include "base/status.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { PATH_ROOM = 4096, MOST_DEPTH = 16, MOST_FILES = 1 << 24 };

typedef struct listing {
    file_names *pictures, *videos;
} listing;

static bool ends_with_one_of(const char *path, const char *const *ends)
{
    const char *dot = strrchr(path, '.');
    for (; dot && *ends; ends++)
        if (strcasecmp(dot + 1, *ends) == 0)
            return true;
    return false;
}

static bool is_picture(const char *path)
{
    static const char *const ends[] = {"png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "ppm", "jxl", NULL};
    return ends_with_one_of(path, ends) && !strchr(path, '%');
}

static bool is_video(const char *path)
{
    static const char *const ends[] = {"mp4", "mkv", "mov", "webm", "avi", "y4m", "m4v", "mpg", "ts", "ogv", NULL};
    return ends_with_one_of(path, ends) || strchr(path, '%');
}

static oasis_status add_file(const listing *l, const char *path, oasis_message *message)
{
    file_names *names = is_picture(path) ? l->pictures : l->videos;
    if (names->count == MOST_FILES)
        return oas_fail(message, OASIS_E_ARGUMENT, "%s: more than %d training files", path, MOST_FILES);
    if (names->count == names->capacity) {
        int capacity = names->capacity ? 2 * names->capacity : 64;
        char **larger = oas_alloc((size_t)capacity, sizeof *larger);
        if (!larger)
            return oas_fail_memory(message, (size_t)capacity * sizeof *larger, "the list of training files");
        if (names->count)
            memcpy(larger, names->path, (size_t)names->count * sizeof *larger);
        oas_free(names->path);
        names->path = larger;
        names->capacity = capacity;
    }
    names->path[names->count] = oas_text_copy(path);
    if (!names->path[names->count])
        return oas_fail_memory(message, strlen(path), "the list of training files");
    names->count++;
    return OASIS_OK;
}

/* Everything usable in a folder and those below it. */
static oasis_status add_folder(const listing *l, const char *folder, int depth, oasis_message *message)
{
    DIR *dir = depth < MOST_DEPTH ? opendir(folder) : NULL;
    if (!dir)
        return oas_fail(message, OASIS_E_IO, "%s: the folder cannot be read, or lies too deep", folder);
    oasis_status s = OASIS_OK;
    for (const struct dirent *e; s == OASIS_OK && (e = readdir(dir));) {
        char path[PATH_ROOM];
        struct stat info;
        int length = snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] == '.' || length >= PATH_ROOM || stat(path, &info) != 0)
            continue;
        if (S_ISDIR(info.st_mode))
            s = add_folder(l, path, depth + 1, message);
        else if (is_picture(path) || is_video(path))
            s = add_file(l, path, message);
    }
    closedir(dir);
    return s;
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

oasis_status oas_files_list(const oasis_text_list *data, file_names *pictures, file_names *videos,
                            oasis_message *message)
{
    const listing l = {pictures, videos};
    if (data->count == 0)
        return oas_fail(message, OASIS_E_ARGUMENT, "the key 'data' is missing: videos, pictures, or folders of them");
    for (int i = 0; i < data->count; i++) {
        struct stat info;
        const char *path = data->text[i];
        bool pattern = strchr(path, '%') != NULL;
        int before = pictures->count + videos->count;
        if (!pattern && stat(path, &info) != 0)
            return oas_fail(message, OASIS_E_IO, "%s: there is no such file or folder of training data", path);
        if (!pattern && S_ISDIR(info.st_mode))
            OAS_TRY(add_folder(&l, path, 0, message));
        else
            OAS_TRY(add_file(&l, path, message));
        if (pictures->count + videos->count == before)
            return oas_fail(message, OASIS_E_FORMAT, "%s: the folder holds no video and no picture", path);
    }
    /* Folders come in any order. */
    if (pictures->count)
        qsort(pictures->path, (size_t)pictures->count, sizeof *pictures->path, compare_paths);
    if (videos->count)
        qsort(videos->path, (size_t)videos->count, sizeof *videos->path, compare_paths);
    return OASIS_OK;
}

void oas_files_free(file_names *names)
{
    for (int i = 0; i < names->count; i++)
        oas_free(names->path[i]);
    oas_free(names->path);
    *names = (file_names){0};
}
