/*
 * limit: what fan-out costs at the least.
 *
 *	limit PORT READ-SIZE [THREADS]
 *
 * Whatever one read of the publisher's socket gives is written to every subscriber, one blocking write each, and that is
 * all. A client's first byte says what it is, 'P' or 'S', and is answered by one byte.
 *
 * It is no server. It parses nothing, so it cannot have rooms, streams or rights; it queues nothing, so one subscriber
 * that does not read stops everybody; it forgets at once, so nobody can join late or resume; and it never checks a length.
 * It is the floor that a server's processor time per delivery is held against: nothing that writes the same bytes to the
 * same sockets by write(2) can cost much less. It is not a floor for every server at every size: the size of its writes is
 * the size of its reads, so give it its best READ-SIZE (64 KiB to 1 MiB are worth trying), and one that gathers more bytes
 * per write, or writes from all cores at once, may deliver more per second.
 *
 * With two THREADS each has half of the subscribers; the second is handed the same buffer and the first waits for it
 * before it reads again.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_SUBS = 20000, MAX_THREADS = 2 };

struct part {
	int fd[MAX_SUBS];
	int n;
};

static struct part part[MAX_THREADS];
static int threads = 1;
static char *buf;
static ssize_t have; /* bytes in buf for the second thread */
static pthread_barrier_t start, finish;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void deliver(struct part *p, const char *b, ssize_t len)
{
	for (int i = 0; i < p->n; i++) {
		for (ssize_t off = 0; off < len;) {
			ssize_t n = write(p->fd[i], b + off, len - off);
			if (n > 0) {
				off += n;
			} else if (errno != EINTR) { /* the subscriber has gone */
				close(p->fd[i]);
				p->fd[i--] = p->fd[--p->n];
				break;
			}
		}
	}
}

static void *second(void *arg)
{
	(void)arg;
	for (;;) {
		pthread_barrier_wait(&start);
		deliver(&part[1], buf, have);
		pthread_barrier_wait(&finish);
	}
	return NULL;
}

/* Takes a new connection: reads its first byte, answers it, and keeps it. */
static void admit(int ep, int listener)
{
	static int turn;
	char role;
	int one = 1, fd = accept(listener, NULL, NULL);
	if (fd < 0)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (read(fd, &role, 1) != 1 || write(fd, "k", 1) != 1) {
		close(fd);
		return;
	}
	if (role == 'S') {
		struct part *p = &part[turn++ % threads];
		if (p->n == MAX_SUBS)
			close(fd);
		else
			p->fd[p->n++] = fd;
		return;
	}
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: limit PORT READ-SIZE [THREADS]\n");
		return 2;
	}
	size_t size = strtoul(argv[2], NULL, 10);
	if (argc > 3)
		threads = atoi(argv[3]);
	if (size == 0 || threads < 1 || threads > MAX_THREADS) {
		fprintf(stderr, "limit: READ-SIZE must be positive, THREADS 1 or 2\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	buf = malloc(size);
	if (!buf)
		die("malloc");

	int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])),
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (struct sockaddr *)&addr, sizeof addr) < 0 || listen(listener, 4096) < 0)
		die("listen");

	pthread_t other;
	if (threads == 2) {
		pthread_barrier_init(&start, NULL, 2);
		pthread_barrier_init(&finish, NULL, 2);
		if (pthread_create(&other, NULL, second, NULL))
			die("pthread_create");
	}

	int ep = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = listener};
	epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev);
	for (;;) {
		struct epoll_event got[64];
		int n = epoll_wait(ep, got, 64, -1);
		for (int i = 0; i < n; i++) {
			int fd = got[i].data.fd;
			if (fd == listener) {
				admit(ep, listener);
				continue;
			}
			have = read(fd, buf, size);
			if (have <= 0) {
				close(fd);
				continue;
			}
			if (threads == 2)
				pthread_barrier_wait(&start);
			deliver(&part[0], buf, have);
			if (threads == 2)
				pthread_barrier_wait(&finish);
		}
	}
}
