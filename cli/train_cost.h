/* What training takes, for people and for programs. */
#ifndef OAS_CLI_TRAIN_COST_H
#define OAS_CLI_TRAIN_COST_H

#include <jansson.h>
#include <oasis/train.h>

/* One line to standard error: memory of a step. */
void cli_cost_line(const oasis_train_cost *cost);

/*
 * Plans the configuration and prints what it takes and what would fit: a table on standard output, or one JSON object.
 * Returns an exit code's status; `message` says why not.
 */
oasis_status cli_cost_print(const oasis_train_options *options, bool json, oasis_message *message);

#endif
