/*
 * Judges (net/perceptual.h) from files:
 *   features   SqueezeNet 1.1 of ncnn: NAME.param, with NAME.bin beside it
 *   LPIPS      "BACKBONE,LIN": torchvision's squeezenet1_1, alexnet or vgg16, told apart by their tensors, and LPIPS v0.1's
 *              linear weights for it (lin0.model.1.weight ...)
 *   DISTS      "VGG16,WEIGHTS": torchvision's vgg16, and alpha and beta
 * of any format that format/weight_file.h reads.
 */
#ifndef OAS_METRICS_PERCEPTUAL_FILE_H
#define OAS_METRICS_PERCEPTUAL_FILE_H

#include "net/perceptual.h"

typedef struct judge_file {
    judge judge;
    parameter_set weights;
} judge_file;

/*
 * Fails with OASIS_E_ARGUMENT (not two files), OASIS_E_IO, OASIS_E_FORMAT (damaged, another network, values that are not
 * finite), OASIS_E_UNSUPPORTED, OASIS_E_MEMORY.  Closed in any case.
 */
oasis_status oas_judge_open(judge_file *f, judgement kind, const char *files, oasis_message *message);
void oas_judge_close(judge_file *f);

#endif
