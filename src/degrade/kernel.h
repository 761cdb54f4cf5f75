/*
 * Blur kernels of seven kinds on an odd window, centred, with sum 1.  With R the rotation by the angle and
 * q = x^T (R diag(sigma_x^2, sigma_y^2) R^T)^-1 x at the whole-numbered offset x from the centre:
 *
 *     Gaussian     exp(-q / 2)
 *     generalised  exp(-q^beta / 2)
 *     plateau      1 / (1 + q^beta)
 *     sinc         omega J1(omega r) / (2 pi r), at the centre omega^2 / (4 pi): an ideal circular low-pass
 *
 * The isotropic kinds use sigma_x alone.  Source: Wang et al., Real-ESRGAN (2021), section 3.
 */
#ifndef OAS_DEGRADE_KERNEL_H
#define OAS_DEGRADE_KERNEL_H

#include "degrade/stage.h"

enum { OAS_KERNEL_SIDE = 21 }; /* the largest window */

typedef enum kernel_kind {
    KERNEL_ISO,
    KERNEL_ANISO,
    KERNEL_GENERALISED_ISO,
    KERNEL_GENERALISED_ANISO,
    KERNEL_PLATEAU_ISO,
    KERNEL_PLATEAU_ANISO,
    KERNEL_SINC,
    KERNEL_KINDS
} kernel_kind;

typedef struct kernel_shape {
    kernel_kind kind;
    int side; /* odd, 1 to OAS_KERNEL_SIDE */
    double sigma_x, sigma_y, angle, beta, omega;
} kernel_shape;

/*
 * A kernel ready for filtering.  Rows and columns at its edge that would together move no pixel by 1/400 of an 8-bit
 * level are cut off, and a product of a column and a row is found out.
 */
typedef struct blur_kernel {
    int side; /* after cutting, odd */
    float weight[OAS_KERNEL_SIDE * OAS_KERNEL_SIDE];
    bool separable; /* weight[j][i] = across[j] * across[i]: symmetric ones only */
    float across[OAS_KERNEL_SIDE];
} blur_kernel;

/* The window in full, row by row, in double. */
void oas_kernel_window(const kernel_shape *shape, double *weight);

void oas_kernel_make(blur_kernel *kernel, const kernel_shape *shape);

/*
 * out = in filtered; the border is mirrored without repeating the edge (as often as it takes in small pictures).
 *   in, out  [height][width][3], out of the same size already
 *   padded   scratch
 * Fails with OASIS_E_MEMORY.
 */
oasis_status oas_filter(const blur_kernel *kernel, oas_pool *pool, const picture *in, picture *padded, picture *out,
                        oasis_message *message);

#endif
