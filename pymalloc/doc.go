// Package pymalloc is the public face on the second edition of the core, which is on its
// way: see the README of the folder above. It has the API of the module's pymalloc, whose
// documentation is the one for users, but for what follows.
//
//   - A Heap has slices and batches too, and Owns.
//   - A batch of mallocs that fails keeps the blocks that it has got.
//   - Close returns nil. The pages of a closed allocator are unmapped some 20 ms later, or
//     before the next Trim of any allocator returns. What the system refuses shows in Stats.
//   - Owns knows pools and runs, and not the free units of an arena.
//   - The seal of every free block is looked at when it is handed out, in all allocators.
//   - A free of a block that was freed, and whose first word the program has overwritten
//     since, is taken for a first one, in hardened allocators too.
//   - Two frees of one block at the same moment may both succeed if the block's pool is at
//     home in the shard of one of them. The pool may be given back while a shard has the block.
package pymalloc
