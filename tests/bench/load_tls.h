/* TLS of the load's client. Without WITH_TLS nothing is linked, and who asks for it is told so. */
#include <sys/types.h>

struct tls;

#ifdef WITH_TLS
/* A client's side on a connected socket; `resumes`: with the ticket of the connection that ended last. */
struct tls *tls_begin(int fd, int resumes);
/* 1: the handshake is done, 0: more is to come, -1: failed. */
int tls_shake(struct tls *tls);
/* Whether the handshake was one of an earlier session. */
int tls_was_resumed(struct tls *tls);
/* As recv and send are. */
ssize_t tls_recv(struct tls *tls, void *buffer, size_t size);
ssize_t tls_send(struct tls *tls, const void *data, size_t size);
/* Say good-bye, and keep the ticket for whoever resumes. */
void tls_end(struct tls *tls);
#else
#define tls_begin(fd, resumes) (die("built without TLS"), (void)(fd), (void)(resumes), (struct tls *)0)
#define tls_shake(tls) -1
#define tls_was_resumed(tls) 0
#define tls_recv(tls, buffer, size) ((void)(tls), (ssize_t)0)
#define tls_send(tls, data, size) ((void)(tls), (ssize_t)0)
#define tls_end(tls) (void)(tls)
#endif
