/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Prometheus' text format (version 0.0.4). */
#pragma once

#include "base/text.h"

/* Appends the two lines before the samples of metric NAME. TYPE: "counter", "gauge", "histogram". -ENOMEM. */
int metrics_text_head(Text *text, const char *name, const char *type, const char *help);

/* Appends a metric that has one sample without labels. -ENOMEM. */
int metrics_text_single(Text *text, const char *name, const char *type, const char *help, double value);
