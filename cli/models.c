/* Where models are looked for: a path as given, else a name in a row of folders, the user's before the system's. */
#include "cli.h"

#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_SIZE = 4096 };

typedef struct search {
    const char *name;
    char path[PATH_SIZE]; /* the last one looked at */
    char looked[640];     /* the folders so far, for the message */
    bool found;
} search;

static bool is_file(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && !S_ISDIR(s.st_mode);
}

/* Adds a folder to the list for the message; one that does not fit is left out. */
static void append(char *text, size_t size, const char *more)
{
    size_t n = strlen(text);
    if (n + strlen(more) + 3 <= size)
        sprintf(text + n, "%s%s", n ? ", " : "", more);
}

/* Looks for NAME and NAME.safetensors in the folder that the format makes. */
static void look_in(search *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void look_in(search *s, const char *format, ...)
{
    static const char *const endings[] = {"", ".safetensors"};
    char folder[PATH_SIZE / 2];
    va_list args;
    if (s->found)
        return;
    va_start(args, format);
    int n = vsnprintf(folder, sizeof folder, format, args);
    va_end(args);
    if (n < 0 || n >= (int)sizeof folder)
        return;
    append(s->looked, sizeof s->looked, folder);
    for (int i = 0; i < 2 && !s->found; i++) {
        n = snprintf(s->path, sizeof s->path, "%s/%s%s", folder, s->name, endings[i]);
        s->found = n > 0 && n < (int)sizeof s->path && is_file(s->path);
    }
}

/* The folder that the program lies in, or "" where the system does not tell. */
static void program_folder(char *folder, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", folder, size - 1);
    folder[n > 0 ? n : 0] = 0;
    char *slash = strrchr(folder, '/');
    if (slash)
        *slash = 0;
}

static void look_everywhere(search *s, const char *folder)
{
    const char *variable = getenv("OASIS_MODEL_DIR");
    const char *data = getenv("XDG_DATA_HOME");
    const char *home = getenv("HOME");
    char here[PATH_SIZE / 2];
    program_folder(here, sizeof here);
    if (folder)
        look_in(s, "%s", folder);
    if (variable && variable[0])
        look_in(s, "%s", variable);
    if (data && data[0])
        look_in(s, "%s/oasis/models", data);
    else if (home && home[0])
        look_in(s, "%s/.local/share/oasis/models", home);
    look_in(s, "%s", OASIS_MODEL_FOLDER);
    if (here[0]) {
        look_in(s, "%s/../share/oasis/models", here); /* installed and then moved */
        look_in(s, "%s", here);
        look_in(s, "%s/../models", here); /* a build folder in the source tree */
    }
}

/* Where the model is; the message says where it was looked for. */
static oasis_status find_model(const char *name, const char *folder, char *path, size_t size, oasis_message *message)
{
    search s = {.name = name ? name : CLI_DEFAULT_MODEL};
    if (strchr(s.name, '/') || (name && is_file(name))) {
        snprintf(path, size, "%s", s.name);
        return OASIS_OK;
    }
    look_everywhere(&s, folder);
    if (!s.found) {
        snprintf(
            message->text, sizeof message->text,
            "no model \"%s\": looked for %s.safetensors in %s; name a file with --model, or a folder with --model-dir",
            s.name, s.name, s.looked);
        return OASIS_E_MODEL;
    }
    snprintf(path, size, "%s", s.path);
    return OASIS_OK;
}

oasis_status cli_open_model(oasis_model **model, const char *name, const char *folder, char *path, size_t size,
                            oasis_message *message)
{
    oasis_status status = find_model(name, folder, path, size, message);
    return status < 0 ? status : oasis_model_open(model, path, message);
}

oasis_status cli_set_decoder(oasis_model *model, const char *name, const char *folder, oasis_message *message)
{
    char path[PATH_SIZE];
    if (!name)
        return OASIS_OK;
    oasis_status status = find_model(name, folder, path, sizeof path, message);
    return status < 0 ? status : oasis_model_set_decoder(model, path, message);
}
