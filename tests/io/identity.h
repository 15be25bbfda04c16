/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Certificates and their keys, made on the spot. */
#pragma once

#include <gnutls/x509.h>

typedef struct Identity {
        gnutls_x509_privkey_t key;
        gnutls_x509_crt_t certificate;
        char key_path[160], certificate_path[160];
} Identity;

/* NAME is that of its two files in DIRECTORY. Signed by ISSUER, or, an authority, by itself. IP is the
 * address it is for, if any. */
void identity_new(
                const char *directory,
                Identity *identity,
                const char *name,
                const Identity *issuer,
                const char *ip);

/* Removes its files. */
void identity_done(Identity *identity);
