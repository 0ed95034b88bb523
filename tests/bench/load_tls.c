#include "load_tls.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <stdlib.h>

static SSL_CTX *context;
static SSL_SESSION *kept;

struct tls *tls_begin(int fd, int resumes)
{
    if (!context) {
        context = SSL_CTX_new(TLS_client_method());
        if (!context || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION))
            abort();
        SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE);
    }
    SSL *ssl = SSL_new(context);
    if (!ssl || !SSL_set_fd(ssl, fd))
        abort();
    SSL_set_connect_state(ssl);
    if (resumes && kept)
        SSL_set_session(ssl, kept);
    return (struct tls *)ssl;
}

static int waits(SSL *ssl, int result)
{
    int error = SSL_get_error(ssl, result);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

int tls_shake(struct tls *tls)
{
    int result = SSL_do_handshake((SSL *)tls);
    return result == 1 ? 1 : waits((SSL *)tls, result) ? 0 : -1;
}

int tls_was_resumed(struct tls *tls)
{
    return SSL_session_reused((SSL *)tls);
}

ssize_t tls_recv(struct tls *tls, void *buffer, size_t size)
{
    int got = SSL_read((SSL *)tls, buffer, (int)size);
    if (got > 0)
        return got;
    int over = SSL_get_error((SSL *)tls, got) == SSL_ERROR_ZERO_RETURN;
    errno = waits((SSL *)tls, got) ? EAGAIN : EPROTO;
    return over ? 0 : -1;
}

ssize_t tls_send(struct tls *tls, const void *data, size_t size)
{
    int sent = SSL_write((SSL *)tls, data, (int)size);
    if (sent > 0)
        return sent;
    errno = waits((SSL *)tls, sent) ? EAGAIN : EPROTO;
    return -1;
}

void tls_end(struct tls *tls)
{
    SSL *ssl = (SSL *)tls;
    SSL_SESSION *found = SSL_get1_session(ssl);
    if (found && SSL_SESSION_is_resumable(found)) {
        SSL_SESSION_free(kept);
        kept = found;
    } else {
        SSL_SESSION_free(found);
    }
    if (SSL_is_init_finished(ssl))
        SSL_shutdown(ssl);
    /* Or OpenSSL takes the missing good-bye of the other side for a reason not to resume. */
    SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(ssl);
}
