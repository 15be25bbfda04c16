/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "identity.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../unit/test.h"

static void write_pem(const char *path, const gnutls_datum_t *pem) {
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, pem->data, pem->size), pem->size);
        close(fd);
}

void identity_new(
                const char *directory,
                Identity *identity,
                const char *name,
                const Identity *issuer,
                const char *ip) {
        static unsigned char serial;
        gnutls_datum_t pem;
        unsigned char address[4];
        assert_int_equal(gnutls_x509_privkey_init(&identity->key), 0);
        assert_int_equal(
                        gnutls_x509_privkey_generate(
                                        identity->key,
                                        GNUTLS_PK_ECDSA,
                                        GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1),
                                        0),
                        0);
        assert_int_equal(gnutls_x509_crt_init(&identity->certificate), 0);
        gnutls_x509_crt_t certificate = identity->certificate;
        serial++;
        assert_int_equal(gnutls_x509_crt_set_version(certificate, 3), 0);
        assert_int_equal(gnutls_x509_crt_set_serial(certificate, &serial, 1), 0);
        assert_int_equal(gnutls_x509_crt_set_key(certificate, identity->key), 0);
        assert_int_equal(
                        gnutls_x509_crt_set_dn_by_oid(
                                        certificate,
                                        GNUTLS_OID_X520_COMMON_NAME,
                                        0,
                                        name,
                                        (unsigned) strlen(name)),
                        0);
        assert_int_equal(gnutls_x509_crt_set_activation_time(certificate, time(NULL) - 3600), 0);
        assert_int_equal(gnutls_x509_crt_set_expiration_time(certificate, time(NULL) + 3600), 0);
        assert_int_equal(gnutls_x509_crt_set_basic_constraints(certificate, !issuer, -1), 0);
        if (ip) {
                assert_int_equal(inet_pton(AF_INET, ip, address), 1);
                assert_int_equal(
                                gnutls_x509_crt_set_subject_alt_name(
                                                certificate,
                                                GNUTLS_SAN_IPADDRESS,
                                                address,
                                                4,
                                                GNUTLS_FSAN_SET),
                                0);
        }
        assert_int_equal(
                        gnutls_x509_crt_sign2(
                                        certificate,
                                        issuer ? issuer->certificate : certificate,
                                        issuer ? issuer->key : identity->key,
                                        GNUTLS_DIG_SHA256,
                                        0),
                        0);
        (void) snprintf(identity->key_path, sizeof(identity->key_path), "%s/%s.key", directory, name);
        (void) snprintf(identity->certificate_path,
                        sizeof(identity->certificate_path),
                        "%s/%s.pem",
                        directory,
                        name);
        assert_int_equal(gnutls_x509_privkey_export2(identity->key, GNUTLS_X509_FMT_PEM, &pem), 0);
        write_pem(identity->key_path, &pem);
        gnutls_free(pem.data);
        assert_int_equal(gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_PEM, &pem), 0);
        write_pem(identity->certificate_path, &pem);
        gnutls_free(pem.data);
}

void identity_done(Identity *identity) {
        assert_int_equal(unlink(identity->key_path), 0);
        assert_int_equal(unlink(identity->certificate_path), 0);
        gnutls_x509_crt_deinit(identity->certificate);
        gnutls_x509_privkey_deinit(identity->key);
}
