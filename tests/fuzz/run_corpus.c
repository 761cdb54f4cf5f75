/*
 * Runs a fuzz target over files and folders of files, each read into memory that ends at a page that may not be
 * touched, and once more cut to half its length.  Ends with an error when there was nothing to run.
 */
#include "fuzz.h"

#include <dirent.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void run(const unsigned char *data, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (size + page - 1) / page * page;
    unsigned char *pages = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(pages != MAP_FAILED);
    MUST(mprotect(pages + room, page, PROT_NONE) == 0);
    unsigned char *copy = pages + room - size;
    if (size)
        memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    munmap(pages, room + page);
}

static int run_file(const char *path, size_t size)
{
    FILE *f = fopen(path, "rb");
    unsigned char *data = malloc(size + 1);
    MUST(f && data && fread(data, 1, size, f) == size);
    fclose(f);
    run(data, size);
    run(data, size / 2);
    free(data);
    return 1;
}

static int run_path(const char *path)
{
    struct stat about;
    int n = 0;
    MUST(stat(path, &about) == 0);
    if (!S_ISDIR(about.st_mode))
        return run_file(path, (size_t)about.st_size);
    DIR *folder = opendir(path);
    MUST(folder != NULL);
    for (struct dirent *e; (e = readdir(folder));) {
        char inside[1200];
        MUST(snprintf(inside, sizeof inside, "%s/%s", path, e->d_name) < (int)sizeof inside);
        if (e->d_name[0] != '.')
            n += run_path(inside);
    }
    closedir(folder);
    return n;
}

int main(int argc, char **argv)
{
    int n = 0;
    for (int i = 1; i < argc; i++)
        n += run_path(argv[i]);
    printf("%d inputs\n", n);
    return n == 0;
}
