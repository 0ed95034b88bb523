/* Load for the bench: one program that is the server's side and the client's side.
 *
 *   load server ADDRESS PORT                 TCP and UDP; never ends
 *   load MODE [OPTIONS] ADDRESS PORT         prints one line of JSON
 *
 * MODE: bulk, sessions, pingpong, udp, udpnew, idle.
 * OPTIONS: -n CONCURRENCY  -t SECONDS  -s SIZE  -m MOST (rounds; then it is over)
 *          -c HOST:PORT    speak HTTP CONNECT to ADDRESS PORT first
 *          -5 IPV4:PORT    speak SOCKS5 to ADDRESS PORT first
 *          -g HOST:PORT    ask ADDRESS PORT for http://HOST:PORT/... instead: SIZE octets, or a stream
 *          -T              TLS with ADDRESS PORT; -R: resume the session of the connection before
 *
 * The server streams to a connection whose first octet is 'S', answers HTTP's GET /SIZE/STAMP where it is
 * 'G', as often as it is asked, and echoes everything else.
 * Every question bears a stamp of its own, and its answer is compared octet by octet; of a stream the
 * first CHECKED octets, so that comparing is not what is measured. Wrong answers, errors and early
 * ends are counted and printed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "load_tls.h"

#define EVENTS 512
#define CHUNK (256 << 10)
#define BATCH 64
#define IDLE_PATIENCE 20 /* seconds for all of them to come about */
#define HISTOGRAM 200000 /* microseconds */
#define CHECKED (1 << 20) /* beyond what a relay copies before it splices */
#define STAMP 8
#define MAX_HEAD 2048
#define ENDLESS 1000000000000ULL /* what a stream says of its length */

static char chunk[CHUNK];
static struct sockaddr_storage address;
static socklen_t address_size;
static int concurrency = 1, size = 64;
static double seconds = 2;
static const char *connect_to, *socks_to, *get_from;
static int secure, resumes;
static int epoll_fd;
static uint32_t histogram[HISTOGRAM];

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void resolve(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *found;
    if (getaddrinfo(host, port, &hints, &found) != 0)
        die("address");
    memcpy(&address, found->ai_addr, found->ai_addrlen);
    address_size = found->ai_addrlen;
    freeaddrinfo(found);
}

static void watch(int fd, uint32_t events, void *data)
{
    struct epoll_event event = {.events = events, .data.ptr = data};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        die("epoll_ctl");
}

static int open_socket(int kind)
{
    int one = 1, fd = socket(address.ss_family, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket");
    if (kind == SOCK_STREAM)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

/* ---- server ---- */

struct peer {
    int fd, streams;
    size_t kept; /* answer that the socket did not take yet, in `rest` */
    char *rest;
    size_t asked; /* octets of a request's head in `head`, while it is not whole */
    char *head;
};

static void end_peer(struct peer *peer)
{
    close(peer->fd);
    free(peer->rest);
    free(peer->head);
    free(peer);
}

/* Send, or keep for later. False: the peer is gone. */
static int answer(struct peer *peer, const char *data, size_t length)
{
    ssize_t sent = send(peer->fd, data, length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        end_peer(peer);
        return 0;
    }
    if (sent < 0)
        sent = 0;
    if (sent < (ssize_t)length) {
        if (!peer->rest)
            peer->rest = malloc(2 * CHUNK);
        peer->kept = length - sent;
        memcpy(peer->rest, data + sent, peer->kept);
    }
    return 1;
}

/* Octets of a request: once its head is whole, head and stamp and filling. False: the peer is gone. */
static int answer_http(struct peer *peer, const char *data, size_t got)
{
    static char text[2 * CHUNK];
    if (!peer->head)
        peer->head = malloc(MAX_HEAD);
    if (peer->asked + got >= MAX_HEAD) {
        end_peer(peer);
        return 0;
    }
    memcpy(peer->head + peer->asked, data, got);
    peer->asked += got;
    peer->head[peer->asked] = 0;
    if (peer->asked < 4 || strcmp(peer->head + peer->asked - 4, "\r\n\r\n") != 0)
        return 1;
    peer->asked = 0;
    char *path = strchr(peer->head, '/'), *stamp;
    if (path && path[1] == '/') /* in absolute form */
        path = strchr(path + 2, '/');
    unsigned long long length = path ? strtoull(path + 1, &stamp, 10) : 0;
    if (!path || *stamp != '/' || length < STAMP || (length > CHUNK && length != ENDLESS)) {
        end_peer(peer);
        return 0;
    }
    size_t used = snprintf(text, CHUNK,
                           "HTTP/1.1 200 OK\r\nDate: Tue, 24 Nov 2026 12:00:00 GMT\r\nServer: load\r\n"
                           "Content-Type: application/octet-stream\r\nContent-Length: %llu\r\n"
                           "ETag: \"abc\"\r\nVary: Accept-Encoding\r\nCache-Control: no-store\r\n"
                           "X-Frame-Options: DENY\r\n\r\n",
                           length);
    size_t filling = length == ENDLESS ? 1024 : length;
    memcpy(text + used, stamp + 1, STAMP);
    memcpy(text + used + STAMP, chunk, filling - STAMP);
    peer->streams = length == ENDLESS;
    return answer(peer, text, used + filling);
}

static void stream_to(struct peer *peer)
{
    while (send(peer->fd, chunk, CHUNK, MSG_NOSIGNAL) >= 0)
        ;
    if (errno != EAGAIN)
        end_peer(peer);
}

static void serve_peer(struct peer *peer, uint32_t events)
{
    if (peer->kept) {
        ssize_t sent = send(peer->fd, peer->rest, peer->kept, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN)
            return;
        if (sent < 0) {
            end_peer(peer);
            return;
        }
        memmove(peer->rest, peer->rest + sent, peer->kept - sent);
        peer->kept -= sent;
        if (peer->kept)
            return;
    }
    if (peer->streams) {
        stream_to(peer);
        return;
    }
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)))
        return;
    static char buffer[CHUNK];
    for (;;) {
        ssize_t got = recv(peer->fd, buffer, sizeof buffer, 0);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            end_peer(peer);
            return;
        }
        if (buffer[0] == 'S' && !peer->head)
            peer->streams = 1;
        else if (!(buffer[0] == 'G' || peer->head ? answer_http : answer)(peer, buffer, got))
            return;
        if (peer->streams && !peer->kept)
            stream_to(peer);
        if (peer->streams || peer->kept)
            return;
        if (got < (ssize_t)sizeof buffer && !(events & EPOLLRDHUP))
            return;
    }
}

static void echo_datagrams(int fd)
{
    static char data[BATCH][2048];
    static struct sockaddr_storage from[BATCH];
    struct iovec vector[BATCH];
    struct mmsghdr message[BATCH];
    for (int i = 0; i < BATCH; i++) {
        vector[i] = (struct iovec){data[i], sizeof data[i]};
        message[i].msg_hdr = (struct msghdr){
            .msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &vector[i], .msg_iovlen = 1};
    }
    int got = recvmmsg(fd, message, BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < got; i++)
        vector[i].iov_len = message[i].msg_len;
    if (got > 0)
        sendmmsg(fd, message, got, 0);
}

static void server(void)
{
    static int tcp_mark, udp_mark;
    int one = 1, tcp = open_socket(SOCK_STREAM), udp = open_socket(SOCK_DGRAM), room = 8 << 20;
    setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(udp, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (bind(tcp, (void *)&address, address_size) || listen(tcp, 16384))
        die("tcp");
    if (bind(udp, (void *)&address, address_size))
        die("udp");
    watch(tcp, EPOLLIN, &tcp_mark);
    watch(udp, EPOLLIN, &udp_mark);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &udp_mark) {
                echo_datagrams(udp);
            } else if (events[i].data.ptr == &tcp_mark) {
                int fd;
                while ((fd = accept4(tcp, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                    struct peer *peer = calloc(1, sizeof *peer);
                    peer->fd = fd;
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    watch(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, peer);
                }
            } else {
                serve_peer(events[i].data.ptr, events[i].events);
            }
        }
    }
}

/* ---- client ---- */

enum mode { BULK, SESSIONS, PINGPONG, UDP, UDPNEW, IDLE };
enum state { CONNECTING, SECURING, GREETING, ASKING, ANSWERED };

struct flow {
    int fd;
    enum state state;
    struct tls *tls;
    size_t got; /* of the answer so far; of an HTTP answer, of its body */
    size_t head; /* octets of its head so far, MAX_HEAD once it is over */
    char *text; /* the head */
    double asked;
    char stamp[STAMP]; /* the first octets of the question */
};

static enum mode mode;
static uint64_t bytes, rounds, errors, wrong, retries, resumed, most = UINT64_MAX;
static int open_flows;
static double ending;

static void ask(struct flow *flow);

/* The hand-shake of an explicit proxy, in blocking steps of the state machine: one request that both
 * proxies answer in one piece on a local wire. SOCKS5 sends greeting and request together. */
static void greet(struct flow *flow)
{
    char text[256];
    size_t length;
    if (connect_to) {
        length = snprintf(text, sizeof text, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", connect_to, connect_to);
    } else {
        char host[64];
        snprintf(host, sizeof host, "%s", socks_to);
        char *colon = strchr(host, ':');
        *colon = 0;
        uint16_t port = htons(atoi(colon + 1));
        memcpy(text, "\5\1\0\5\1\0\1", 7);
        inet_pton(AF_INET, host, text + 7);
        memcpy(text + 11, &port, 2);
        length = 13;
    }
    flow->state = GREETING;
    flow->got = 0;
    if (send(flow->fd, text, length, MSG_NOSIGNAL) != (ssize_t)length)
        errors++;
}

/* True once the proxy's answer is whole. */
static int greeted(struct flow *flow)
{
    char text[1024];
    size_t wanted = connect_to ? 0 : 12;
    if (connect_to) {
        ssize_t got = recv(flow->fd, text, sizeof text - 1, MSG_PEEK);
        if (got <= 0)
            return 0;
        text[got] = 0;
        char *end = strstr(text, "\r\n\r\n");
        if (!end)
            return 0;
        if (strncmp(text + 8, " 200", 4) != 0)
            errors++;
        wanted = end + 4 - text;
    } else {
        ssize_t got = recv(flow->fd, text, wanted, MSG_PEEK);
        if (got < (ssize_t)wanted)
            return 0;
        if (text[1] != 0 || text[3] != 0)
            errors++;
    }
    return recv(flow->fd, text, wanted, 0) == (ssize_t)wanted;
}

static int begin(struct flow *flow)
{
    int datagram = mode == UDP || mode == UDPNEW;
    flow->fd = open_socket(datagram ? SOCK_DGRAM : SOCK_STREAM);
    flow->state = CONNECTING;
    flow->got = 0;
    flow->asked = now();
    if (connect(flow->fd, (void *)&address, address_size) != 0 && errno != EINPROGRESS) {
        errors++;
        close(flow->fd);
        flow->fd = -1;
        return 0;
    }
    open_flows++;
    watch(flow->fd, datagram ? EPOLLIN : EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, flow);
    if (datagram)
        ask(flow);
    return 1;
}

static void finish(struct flow *flow)
{
    if (flow->tls)
        tls_end(flow->tls);
    flow->tls = NULL;
    close(flow->fd);
    flow->fd = -1;
    open_flows--;
    if (now() < ending)
        begin(flow);
}

/* What a browser sends. */
static size_t write_request(const struct flow *flow, char *text, size_t room)
{
    unsigned long long length = mode == BULK ? ENDLESS : (unsigned long long)size;
    return snprintf(text, room,
                    "GET http://%s/%llu/%.*s HTTP/1.1\r\nHost: %s\r\n"
                    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
                    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8\r\n"
                    "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate\r\n"
                    "Proxy-Connection: keep-alive\r\nReferer: http://%s/\r\n"
                    "Cookie: session=abcdefghijklmnopqrstuvwxyz0123456789; theme=dark; consent=yes\r\n"
                    "Upgrade-Insecure-Requests: 1\r\nDNT: 1\r\nCache-Control: max-age=0\r\n\r\n",
                    get_from, length, STAMP, flow->stamp, get_from, get_from);
}

static void put_request(struct flow *flow)
{
    char text[MAX_HEAD];
    size_t length = write_request(flow, text, sizeof text);
    flow->asked = now();
    flow->head = 0;
    ssize_t sent = flow->tls ? tls_send(flow->tls, text, length) : send(flow->fd, text, length, MSG_NOSIGNAL);
    if (sent != (ssize_t)length)
        errors++;
}

/* Takes the head of an HTTP answer off the octets that came: how many, or -1 where it is a wrong one. */
static ssize_t take_head(struct flow *flow, const char *octets, size_t count)
{
    if (!flow->text)
        flow->text = malloc(MAX_HEAD);
    size_t had = flow->head, more = count < MAX_HEAD - 1 - had ? count : MAX_HEAD - 1 - had;
    memcpy(flow->text + had, octets, more);
    flow->text[had + more] = 0;
    char *end = strstr(flow->text, "\r\n\r\n"), *said = strcasestr(flow->text, "\r\ncontent-length:");
    if (!end) {
        flow->head = had + more;
        return had + more == MAX_HEAD - 1 ? -1 : (ssize_t)count;
    }
    flow->head = MAX_HEAD;
    unsigned long long length = mode == BULK ? ENDLESS : (unsigned long long)size;
    if (strncmp(flow->text + 8, " 200", 4) != 0 || !said || said > end || strtoull(said + 17, NULL, 10) != length)
        return -1;
    return end + 4 - flow->text - had;
}

static void put_question(struct flow *flow)
{
    if (get_from) {
        put_request(flow);
        return;
    }
    static char question[CHUNK];
    if (!question[STAMP])
        memset(question, 'x', sizeof question);
    memcpy(question, flow->stamp, STAMP);
    flow->asked = now();
    if (send(flow->fd, question, mode == BULK ? 1 : size, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
        errors++;
}

static void ask(struct flow *flow)
{
    static uint32_t asked;
    uint32_t number = ++asked;
    flow->stamp[0] = mode == BULK ? 'S' : 'E';
    /* Small letters: no part of a question may look like the 'S' of a stream. */
    for (int i = 1; i < STAMP; i++, number >>= 4)
        flow->stamp[i] = 'a' + (number & 15);
    flow->state = ASKING;
    flow->got = 0;
    put_question(flow);
}

/* True where these octets, which follow flow->got others, are the answer's. */
static int right(const struct flow *flow, const char *octets, size_t count)
{
    size_t at = flow->got;
    if (mode == BULK && !get_from)
        return memcmp(octets, chunk, count) == 0;
    if (mode != BULK && at + count > (size_t)size)
        return 0;
    for (; at < STAMP && count; at++, octets++, count--)
        if (*octets != flow->stamp[at])
            return 0;
    return memcmp(octets, chunk, count) == 0;
}

/* A datagram that answers an earlier question: one of two that a lost patience asked twice. */
static int late(const struct flow *flow, const char *octets, ssize_t count)
{
    return mode == UDP && count == size && memcmp(octets, flow->stamp, STAMP) != 0 &&
           memcmp(octets + STAMP, chunk, size - STAMP) == 0;
}

static void count_latency(struct flow *flow)
{
    double took = (now() - flow->asked) * 1e6;
    histogram[took < HISTOGRAM - 1 ? (int)took : HISTOGRAM - 1]++;
}

static void step(struct flow *flow, uint32_t events)
{
    static char buffer[CHUNK];
    if (flow->fd < 0)
        return;
    if (flow->state == CONNECTING) {
        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
            return;
        int code;
        socklen_t length = sizeof code;
        getsockopt(flow->fd, SOL_SOCKET, SO_ERROR, &code, &length);
        if (code) {
            errors++;
            finish(flow);
            return;
        }
        if (secure) {
            flow->tls = tls_begin(flow->fd, resumes);
            flow->state = SECURING;
        } else if (connect_to || socks_to) {
            greet(flow);
        } else {
            ask(flow);
        }
    }
    if (flow->state == SECURING) {
        int shaken = tls_shake(flow->tls);
        if (shaken == 0)
            return;
        if (shaken < 0) {
            errors++;
            finish(flow);
            return;
        }
        resumed += tls_was_resumed(flow->tls);
        ask(flow);
    }
    if (flow->state == GREETING) {
        if (!greeted(flow))
            return;
        ask(flow);
    }
    for (;;) {
        int unseen = mode == BULK && flow->got >= CHECKED;
        char *octets = buffer;
        /* Of a TLS stream the rest is not even decrypted: the load's core is not what is measured. */
        ssize_t got = flow->tls && !unseen ? tls_recv(flow->tls, buffer, sizeof buffer)
                                           : recv(flow->fd, buffer, sizeof buffer, unseen ? MSG_TRUNC : 0);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            errors++;
            finish(flow);
            return;
        }
        if (retries && late(flow, buffer, got))
            continue;
        if (get_from && flow->head < MAX_HEAD) {
            ssize_t head = take_head(flow, octets, got);
            octets += head;
            got = head < 0 ? -1 : got - head;
            if (got == 0)
                continue;
        }
        if (got < 0 || (!unseen && !right(flow, octets, got))) {
            wrong++;
            finish(flow);
            return;
        }
        bytes += got;
        flow->got += got;
        if (mode == BULK)
            continue;
        if (flow->got < (size_t)size)
            continue;
        rounds++;
        count_latency(flow);
        if (mode == SESSIONS || mode == UDPNEW) {
            finish(flow);
            return;
        }
        if (mode == IDLE) {
            flow->state = ANSWERED;
            return;
        }
        if (now() < ending)
            ask(flow);
    }
}

static double percentile(double share)
{
    uint64_t all = 0, seen = 0;
    for (int i = 0; i < HISTOGRAM; i++)
        all += histogram[i];
    for (int i = 0; i < HISTOGRAM; i++)
        if ((seen += histogram[i]) >= all * share)
            return i;
    return 0;
}

/* Datagrams may be lost: what has waited for 50 ms is asked again, and counted. */
static void ask_again(struct flow *flows)
{
    double moment = now();
    for (int i = 0; i < concurrency; i++)
        if (flows[i].fd >= 0 && moment - flows[i].asked > 0.05) {
            retries++;
            put_question(&flows[i]);
        }
}

static void client(void)
{
    struct flow *flows = calloc(concurrency, sizeof *flows);
    double begun = now(), swept = begun;
    ending = begun + (mode == IDLE ? IDLE_PATIENCE : seconds);
    if (mode == IDLE) {
        /* In steps, so that no backlog overflows. */
        for (int i = 0; i < concurrency && now() < ending; i++) {
            begin(&flows[i]);
            while ((int)rounds < i - 200 && now() < ending) {
                struct epoll_event events[EVENTS];
                int count = epoll_wait(epoll_fd, events, EVENTS, 1000);
                for (int k = 0; k < count; k++)
                    step(events[k].data.ptr, events[k].events);
            }
        }
    } else {
        for (int i = 0; i < concurrency; i++)
            begin(&flows[i]);
    }
    while (now() < ending && rounds < most && (open_flows || mode == SESSIONS)) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll_fd, events, EVENTS, 20);
        for (int i = 0; i < count; i++)
            step(events[i].data.ptr, events[i].events);
        if ((mode == UDP || mode == UDPNEW) && now() - swept > 0.02) {
            ask_again(flows);
            swept = now();
        }
        if (mode == IDLE && (int)rounds >= concurrency)
            break;
        if (errors > 1000 || wrong)
            break;
    }
    double took = now() - begun;
    printf("{\"bytes\": %llu, \"rounds\": %llu, \"errors\": %llu, \"wrong\": %llu, \"retries\": %llu, "
           "\"resumed\": %llu, \"open\": %d, \"seconds\": %.6f, \"p50_us\": %.0f, \"p99_us\": %.0f}\n",
           (unsigned long long)bytes, (unsigned long long)rounds, (unsigned long long)errors,
           (unsigned long long)wrong, (unsigned long long)retries, (unsigned long long)resumed, open_flows, took,
           percentile(0.5), percentile(0.99));
    fflush(stdout);
    if (mode == IDLE) { /* hold them until the bench has looked */
        char octet;
        if (read(0, &octet, 1) < 0)
            die("stdin");
    }
}

int main(int count, char **words)
{
    static const char *modes[] = {"bulk", "sessions", "pingpong", "udp", "udpnew", "idle"};
    struct rlimit limit;
    int option;
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    memset(chunk, 'x', sizeof chunk);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    errno = EINVAL;
    if (count < 4)
        die("usage: load server|MODE [OPTIONS] ADDRESS PORT");
    while ((option = getopt(count - 1, words + 1, "n:t:s:m:c:5:g:TR")) != -1) {
        switch (option) {
        case 'n': concurrency = atoi(optarg); break;
        case 't': seconds = atof(optarg); break;
        case 's': size = atoi(optarg); break;
        case 'm': most = atoll(optarg); break;
        case 'c': connect_to = optarg; break;
        case '5': socks_to = optarg; break;
        case 'g': get_from = optarg; break;
        case 'T': secure = 1; break;
        case 'R': resumes = 1; break;
        default: return 2;
        }
    }
    if (size < STAMP || size > CHUNK || concurrency < 1)
        die("-s or -n");
    if (secure && !get_from)
        die("-T is for -g");
    resolve(words[count - 2], words[count - 1]);
    if (strcmp(words[1], "server") == 0)
        server();
    for (mode = BULK; mode <= IDLE; mode++)
        if (strcmp(words[1], modes[mode]) == 0) {
            client();
            return errors > 1000 || wrong;
        }
    errno = EINVAL;
    die("mode");
}
