/* upscale, info and convert with another file's decoder, and weights of q8_0, as a user runs them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "clip.h"
#include "program.h"

/* 16 latent channels, as Wan. */
#define NANO OASIS_SOURCE_DIR "/tests/data/bootstrap-nano.safetensors"
#define VAE OASIS_SOURCE_DIR "/tests/data/wan-vae-tiny.safetensors"
#define DIT OASIS_SOURCE_DIR "/tests/data/wan-dit-tiny.safetensors"

static void says(const char *line, const char *words)
{
    result r = run(line);
    expect_code(&r, 0, line);
    if (!strstr(r.out, words))
        fail_msg("%s: \"%s\" does not say %s", line, r.out, words);
    result_free(&r);
}

static void test_decoder(void **state)
{
    (void)state;
    write_y4m("a.y4m", 24, 24, 6);
    succeed("upscale -q -s 2 a.y4m own.y4m -m " NANO);
    succeed("upscale -q -s 2 a.y4m vae.y4m -m " NANO " --decoder " VAE);
    succeed("upscale -q -s 2 a.y4m same.y4m -m " NANO " --decoder " NANO);
    expect_contents("vae.y4m", 48, 48, 6);
    assert_false(same_bytes("own.y4m", "vae.y4m"));
    assert_true(same_bytes("own.y4m", "same.y4m"));
    says("upscale --dry-run -s 2 a.y4m -m " NANO " --decoder " VAE, "memory:");
    says("info " NANO " --decoder " VAE, "decoder:          wan-vae");
    says("info " VAE, "wan-vae, for --decoder");
    says("info --json " VAE, "\"latent_channels\": 16");
    refused(4, "there is no decoder in it", "upscale -s 2 a.y4m b.y4m --decoder " DIT);
    refused(4, "no model \"nothing\"", "upscale -s 2 a.y4m b.y4m --decoder nothing");
    refused(4, "there is no decoder in it", "info oasis-nano --decoder " DIT);
}

/* A model of the 1.3B's width and one block, small decoder, through the whole program. */
static void test_q8(void **state)
{
    (void)state;
    write_y4m("a.y4m", 16, 16, 1);
    succeed("convert -q --random wan2.1-1.3b --layers 1 --dtype q8_0 --decoder " VAE " q8.safetensors");
    succeed("convert -q --random wan2.1-1.3b --layers 1 --decoder " VAE " bf16.safetensors");
    says("info --verify q8.safetensors", "mostly q8_0");
    says("info --json q8.safetensors", "\"weights\": \"q8_0\"");
    says("info bf16.safetensors", "mostly bf16");
    succeed("upscale -q -s 2 a.y4m b.y4m -m q8.safetensors");
    expect_contents("b.y4m", 32, 32, 1);
    refused(2, "--layers goes with --random", "convert out.safetensors --dit " DIT " --layers 2");
    refused(4, "there is no decoder in it", "convert out.safetensors --random wan2.1-1.3b --decoder " DIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_decoder, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_q8, enter_folder, leave_folder),
    };
    return cmocka_run_group_tests_name("e2e/decoder", tests, NULL, NULL);
}
