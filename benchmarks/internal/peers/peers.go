// Package peers is the C side of the suite: it builds the workloads' C program
// and finds the allocators that are loaded under its malloc.
package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Peer is an allocator for C programs.
type Peer struct {
	Name    string
	Library string // loaded before the others; "" for the C library's own malloc
}

// Program is the built C program.
type Program struct{ exe string }

// ErrNoCompiler is returned where there is no C compiler.
var ErrNoCompiler = errors.New("no C compiler (cc, gcc or clang) is in PATH")

// Build compiles the source into dir.
func Build(ctx context.Context, source, dir string) (*Program, error) {
	for _, cc := range []string{os.Getenv("CC"), "cc", "gcc", "clang"} {
		path, err := exec.LookPath(cc)
		if cc == "" || err != nil {
			continue
		}
		p := &Program{filepath.Join(dir, "workload")}
		args := []string{"-O2", "-pthread", "-fno-builtin-malloc", "-fno-builtin-free", "-o", p.exe, source}
		if out, err := exec.CommandContext(ctx, path, args...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", cc, err, bytes.TrimSpace(out))
		}
		return p, nil
	}
	return nil, ErrNoCompiler
}

// Run runs the program under a peer, and decodes what it prints into result.
func (p *Program) Run(ctx context.Context, peer Peer, result any, args ...string) error {
	c := exec.CommandContext(ctx, p.exe, args...)
	c.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "LD_PRELOAD=") })
	if peer.Library != "" {
		c.Env = append(c.Env, "LD_PRELOAD="+peer.Library)
	}
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	if stderr.Len() > 0 { // the loader cannot load it, and goes on without
		return fmt.Errorf("%s", bytes.TrimSpace(stderr.Bytes()))
	}
	return json.Unmarshal(out, result)
}

// libraries are the allocators that are looked for, with the names of their
// files, the best first.
var libraries = []struct {
	name  string
	files []string
}{
	{"mimalloc", []string{"libmimalloc.so.3", "libmimalloc.so.2", "libmimalloc.so.2.*", "libmimalloc.so"}},
	{"jemalloc", []string{"libjemalloc.so.2", "libjemalloc.so"}},
	{"tcmalloc", []string{"libtcmalloc_minimal.so.4", "libtcmalloc.so.4", "libtcmalloc*.so"}},
}

// folders are where systems keep libraries.
var folders = []string{
	"/usr/local/lib", "/usr/local/lib64", "/usr/lib/*-linux-gnu*", "/usr/lib64", "/usr/lib", "/lib64", "/lib",
}

// Find returns the C library's malloc and the allocators that are installed, and
// the names of those that are not. The environment variable
// PYARENA_PEERS=name=file,… names further ones, or others in their place.
func Find() (found []Peer, missing []string) {
	found = []Peer{{Name: "libc"}}
	given := map[string]string{}
	for _, s := range strings.Split(os.Getenv("PYARENA_PEERS"), ",") {
		if name, file, ok := strings.Cut(s, "="); ok {
			given[name] = file
		}
	}
	for _, l := range libraries {
		if file, ok := given[l.name]; ok {
			found = append(found, Peer{l.name, file})
			delete(given, l.name)
		} else if file := locate(l.files); file != "" {
			found = append(found, Peer{l.name, file})
		} else {
			missing = append(missing, l.name)
		}
	}
	for name, file := range given {
		found = append(found, Peer{name, file})
	}
	return found, missing
}

func locate(files []string) string {
	for _, file := range files {
		for _, folder := range folders {
			if at, err := filepath.Glob(filepath.Join(folder, file)); err == nil && len(at) > 0 {
				return at[len(at)-1]
			}
		}
	}
	return ""
}
