/*
 * Text in strokes: a small font of our own, drawn by the distance to its strokes, so that letters of any size, weight and
 * place are antialiased exactly and may move by fractions of a pixel.  For training clips, and for labels on sheets.
 *
 * Letters stand on the line y = 0 of their own plane, x to the right and y up, in units of the height of a capital
 * letter; a map takes that plane to pixels.
 */
#ifndef OAS_DATASET_TEXT_H
#define OAS_DATASET_TEXT_H

/* (x, y) -> (xx x + xy y + x0, yx x + yy y + y0). */
typedef struct oas_affine {
    double xx, xy, yx, yy, x0, y0;
} oas_affine;

typedef struct oas_text_style {
    double weight;   /* of a stroke, as a share of a capital's height: 0.1 is light, 0.2 bold */
    double contrast; /* by how much level strokes are thinner than upright ones: 0 to 0.8 */
    double slant;    /* x grows by slant * y: 0.2 is an italic */
    double width;    /* of letters, 1 = as drawn */
    double spacing;  /* between letters, in capitals' heights: 0.25 is usual */
    double serif;    /* length of the feet of upright strokes, in capitals' heights: 0 = none */
} oas_text_style;

/* How long the text is, in capitals' heights. */
double oas_text_length(const char *text, const oas_text_style *style);

/*
 * Draws one line of ASCII text (what the font lacks is a space).
 *   to_pixels  from the letters' plane to the picture, whose pixel centres lie at whole numbers
 *   cover      [height][width], raised to the share of every pixel that is covered, 0 to 1
 */
void oas_text_draw(const char *text, const oas_text_style *style, const oas_affine *to_pixels, float *cover, int width,
                   int height);

/* The segment from a to b with round ends, `radius` pixels thick to either side; raises cover as above. */
void oas_stroke_draw(const double a[2], const double b[2], double radius, float *cover, int width, int height);

#endif
