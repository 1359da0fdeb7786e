// A host in C: its own threads allocate blocks, other threads of its own free them,
// and each runs the whole load once. It prints ok, or what was wrong.

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libmodes.h"

enum { threads = 4, blocks = 2000, rounds = 3 };

static unsigned char *made[threads][blocks];
static pthread_barrier_t all_made, all_freed;

static size_t size_of(int i) { return 1 + (size_t)i * 37 % 3000; }

static void fail(const char *what) {
	fprintf(stderr, "%s\n", what);
	exit(1);
}

static void *work(void *argument) {
	int self = (int)(size_t)argument;
	for (int round = 0; round < rounds; round++) {
		for (int i = 0; i < blocks; i++) {
			unsigned char *p = ModesMalloc(size_of(i));
			if (p == NULL) fail("malloc failed");
			memset(p, self * 16 + i % 16, size_of(i));
			made[self][i] = p;
		}
		pthread_barrier_wait(&all_made);
		int other = (self + 1) % threads;
		for (int i = 0; i < blocks; i++) {
			unsigned char *p = made[other][i];
			for (size_t at = 0; at < size_of(i); at++)
				if (p[at] != other * 16 + i % 16) fail("a block has other bytes than were written");
			if (ModesFree(p) != 0) fail("free of a live block failed");
		}
		if (ModesTrim() != 0) fail("trim failed");
		pthread_barrier_wait(&all_freed);
	}
	if (self < 2) ModesLoad();
	return NULL;
}

int main(void) {
	pthread_barrier_init(&all_made, NULL, threads);
	pthread_barrier_init(&all_freed, NULL, threads);
	// Threads that end and new ones: each comes to Go as a stranger.
	for (int generation = 0; generation < 2; generation++) {
		pthread_t t[threads];
		for (int i = 0; i < threads; i++)
			if (pthread_create(&t[i], NULL, work, (void *)(size_t)i) != 0) fail("no thread");
		for (int i = 0; i < threads; i++) pthread_join(t[i], NULL);
	}
	if (ModesLive() != 0) fail("blocks are live after all were freed");
	puts("ok");
	return 0;
}
