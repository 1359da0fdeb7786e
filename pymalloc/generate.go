//go:build ignore

// Command generate makes fast.go from fast.tmpl: go generate ./pymalloc
package main

import (
	"bytes"
	"go/format"
	"log"
	"os"
	"strconv"
	"text/template"
)

// paths is what the template knows of an Allocator's fast paths, or of a Heap's.
type paths struct {
	Heap     bool
	Receiver string
	Self     string
	Nil      string // argument of slow paths
	Then     string // what follows a malloc
}

func (f paths) pick(allocator, heap string) string {
	if f.Heap {
		return heap
	}
	return allocator
}

// The parts of a section: what comes before a shard is looked for, how it is looked for, what
// comes when there is one, and how it ends then, before that, and at once.

func (f paths) Begin() string { return f.pick("token := engine.Pin()", "") }

func (f paths) Shard() string {
	return f.pick("s := v.Shard(token); s != nil", "s := h.e.Shard; s != nil")
}
func (f paths) BeginShard() string { return f.pick("", "\nengine.Used(h)\ns.Begin()") }
func (f paths) EndShard() string   { return f.pick("", "\ns.End()") }
func (f paths) EndAll() string     { return f.pick("\nengine.Unpin(token)", "") }
func (f paths) End() string        { return f.pick("engine.Unpin(token)", "s.End()\nruntime.KeepAlive(h)") }

// Call is the name of a call in errors.
func (f paths) Call(name string) string { return strconv.Quote(f.pick("", "Heap.") + name) }

// With is f, with what follows a malloc.
func (f paths) With(then string) paths {
	f.Then = then
	return f
}

func main() {
	log.SetFlags(0)
	tmpl := template.Must(template.ParseFiles("fast.tmpl"))
	var out bytes.Buffer
	if err := tmpl.Execute(&out, []paths{
		{Receiver: "a *Allocator", Self: "a", Nil: ", nil"},
		{Receiver: "h *Heap", Self: "h", Heap: true},
	}); err != nil {
		log.Fatal(err)
	}
	text, err := format.Source(out.Bytes())
	if err != nil {
		log.Fatalf("%v in\n%s", err, out.Bytes())
	}
	if len(os.Args) > 1 && os.Args[1] == "-" {
		_, err = os.Stdout.Write(text)
	} else {
		err = os.WriteFile("fast.go", text, 0o644)
	}
	if err != nil {
		log.Fatal(err)
	}
}
