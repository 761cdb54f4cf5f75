/* A tiny random model and clips for it, the same for the same seed. */
#ifndef TESTS_TRAIN_TINY_H
#define TESTS_TRAIN_TINY_H

#include "model.h"
#include "tensor/sampler.h"

enum { TINY_DIM = 32, TINY_LATENT = 4, TINY_FRAMES = 5, TINY_SIDE = 32, TINY_TIME = 16 };

/* Of random weights, that want gradients; `time`: with a time embedding.  Fails the test. */
oasis_model *tiny_model(bool time);

/* [1,TINY_FRAMES,TINY_SIDE,TINY_SIDE,3]: a moving pattern in [-1,1]; `blur`: its coarse half only. */
tensor *tiny_clip(graph *g, bool blur);

#endif
