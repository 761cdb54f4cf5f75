/*
 * golden_wan FILE...: runs files of reference tensors of Wan's networks (a transformer, or the autoencoder; the form is
 * that of tests/data/wan-*.safetensors) and prints the relative error of every stage, output and gradient.
 * Exit status 1 when one is above 1e-4, 2 when a file cannot be run.
 */
#include "golden/wan.h"

#include <stdio.h>

static const double LIMIT = 1e-4;

/* One file by one way of running it; the exit status. */
static int run_once(const weight_file *file, const char *name, wan_run run)
{
    printf("%s, %s\n", oas_weight_file_path(file), name);
    if (!wan_golden(file, &run)) {
        fprintf(stderr, "golden_wan: %s: %s\n", oas_weight_file_path(file), run.message);
        return 2;
    }
    printf("    worst of %d: %.2e, limit %.0e: %s\n", run.stages, run.worst, LIMIT, run.worst <= LIMIT ? "ok" : "TOO FAR");
    return run.worst <= LIMIT ? 0 : 1;
}

static int check(const char *path, device *d)
{
    weight_file *file = NULL;
    oasis_message why = {""};
    if (oas_weight_file_open(&file, path, &why) < 0) {
        fprintf(stderr, "golden_wan: %s\n", why.text);
        return 2;
    }
    bool gradients = oas_weight_file_find(file, "test.output_cotangent") != NULL;
    bool video = oas_weight_file_find(file, "test.latent") != NULL;
    int worst = run_once(file, "plain C, fp32", (wan_run){.gradients = gradients, .whole = true});
    int fast = run_once(file, "fast, fp32", (wan_run){.device = d, .gradients = gradients, .whole = true});
    int streamed = video ? run_once(file, "fast, fp32, streamed", (wan_run){.device = d}) : 0;
    oas_weight_file_close(&file);
    worst = fast > worst ? fast : worst;
    return streamed > worst ? streamed : worst;
}

int main(int argc, char **argv)
{
    device *d = NULL;
    oasis_message why = {""};
    int worst = 0;
    if (argc < 2) {
        fprintf(stderr, "usage: golden_wan FILE...\n");
        return 2;
    }
    if (oas_device_new(&d, 0, &why) < 0) {
        fprintf(stderr, "golden_wan: %s\n", why.text);
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        int status = check(argv[i], d);
        worst = status > worst ? status : worst;
    }
    oas_device_free(&d);
    return worst;
}
