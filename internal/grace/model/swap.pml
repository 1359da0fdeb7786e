/*
 * swap: taking a shard away from a P or a Heap, with a grace period that stops
 * the world (packages grace and shard).
 *
 * States. slot is the shard of a P, heap that of the Heap, 0 if none. running tells
 * that a goroutine is pinned on the P. busy is the Heap's mark. The Heap's user
 * writes busy and the shard's data; pendingData is the shard whose data is not
 * visible yet.
 *
 * Who makes the transitions. Two goroutines, in turns pinned on the P while
 * they use its shard (Enter, Take, Exit); the Heap's goroutine, not pinned (begin,
 * end), whose plain stores wait in a store buffer until the processor flushes
 * it; each installs a new shard where it finds none. The swapper empties a slot
 * or the heap (swapOut), waits (Wait: a moment at which nobody is pinned, and
 * every processor's stores have been flushed), waits until the Heap is not busy
 * (await), uses the shard (drain), and keeps it for another use.
 *
 * Proved. A shard never has two users. What its last user wrote is visible to
 * the next.
 *
 * Abstracted. Wait is that one moment. The store buffer is that of x86 (first in,
 * first out); with WEAK stores to different words are flushed in any order, as on
 * arm64, and end is a store-release: it waits for the stores before it. PLAIN_END
 * has the plain store there. Loads are not reordered.
 *
 * Seen: 460,000 states; 590,000 with WEAK.
 */

#define SHARDS 3
#define BUFFER 3

#ifdef PLAIN_END
#define WEAK
#endif

byte slot, heap;
bool running;
bool busy;
bool spare[SHARDS + 1] = true;
bool users[SHARDS + 1]; /* ghost */
byte pendingData;       /* ghost: the shard with data in the buffer, or 0 */

/* The stores of the Heap's processor that are not visible yet: begin, end, or
 * data of the shard in use. */
#define BEGIN 1
#define END 2
#define DATA 3
chan buffer = [BUFFER] of { byte };
#ifdef WEAK
chan dataBuffer = [1] of { byte };
#define to_data dataBuffer
#else
#define to_data buffer
#endif

inline use(s) { d_step { assert(!users[s]); users[s] = true } }
inline unuse(s) { d_step { assert(users[s]); users[s] = false } }

/* newShard, and the store to the slot, under the table's lock */
inline fillSlot(to) {
	atomic {
		if
		:: to == 0 ->
			if
			:: spare[1] -> to = 1
			:: !spare[1] && spare[2] -> to = 2
			:: else -> assert(spare[3]); to = 3
			fi;
			spare[to] = false
		:: else
		fi
	}
}

active [2] proctype Pinned() {
	byte s;

	do
	:: atomic { !running -> running = true }; /* Enter */
		s = slot; /* Take */
		if
		:: s != 0 -> use(s); unuse(s)
		:: else
		fi;
		running = false; /* Exit */
		if
		:: s == 0 -> fillSlot(slot)
		:: else
		fi;
		s = 0
	od
}

active proctype Heap() {
	byte s;

	do
	:: buffer!BEGIN;
		s = heap;
		if
		:: s != 0 ->
			use(s);
			atomic { to_data!DATA; assert(pendingData == 0); pendingData = s };
			unuse(s)
		:: else
		fi;
#if defined(WEAK) && !defined(PLAIN_END)
		empty(dataBuffer);
#endif
		buffer!END;
		if
		:: s == 0 -> empty(buffer) && empty(to_data); fillSlot(heap) /* takes a lock */
		:: else
		fi;
		s = 0
	od
}

inline flush_one() {
	if
	:: buffer?BEGIN -> busy = true
	:: buffer?END -> busy = false
	:: to_data?DATA -> pendingData = 0
	fi
}

active proctype Flush() {
	do
	:: atomic { flush_one() }
	od
}

/* Wait is a stop-the-world begun and ended. */
inline Wait() {
#ifdef NO_GRACE
	skip
#else
	atomic {
		!running;
		do
		:: nempty(buffer) || nempty(to_data) -> flush_one()
		:: empty(buffer) && empty(to_data) -> break
		od
	}
#endif
}

inline await() {
#ifdef NO_AWAIT
	skip
#else
	!busy
#endif
}

#define empty_now(from) atomic { s = from; from = 0 }

#ifdef SWAP_LATE
#define EMPTY_SLOT(from) s = from; Wait(); atomic { (from == s) -> from = 0 }
#else
#define EMPTY_SLOT(from) empty_now(from); Wait()
#endif

#ifdef AWAIT_FIRST
#define EMPTY_HEAP empty_now(heap); await(); Wait()
#else
#define EMPTY_HEAP empty_now(heap); Wait(); await()
#endif

active proctype Swapper() {
	byte s;

	do
	:: /* swapOut; the lock is held while a slot is emptied */
		if
		:: EMPTY_SLOT(slot)
		:: EMPTY_HEAP
		fi;
		/* drain */
		if
		:: s != 0 ->
			use(s);
			assert(pendingData != s);
			unuse(s);
			spare[s] = true /* keepShard */
		:: else
		fi;
		s = 0
	od
}
