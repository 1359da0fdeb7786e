// Package spin runs the Promela models of the concurrent protocols through the
// model checker spin, for tests.
//
// A model is a file beside the code that it is about. A twin of it is the same
// file with one macro defined, by which a guard of the protocol is missing: the
// search must find an error in it, which shows that the model is able to fail.
package spin

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	memoryMiB  = "2000"          // of one search
	searchTime = 4 * time.Minute // on a machine that is busy
)

// effort is what a search may cost: -m is the steps of the longest path, -w the
// log2 of the size of the table of states.
type effort []string

var (
	whole = effort{"-m1000000", "-w22"}
	twin  = effort{"-m300000", "-w18"} // the first error is enough
)

// Check searches all states of the model: there must be no error, and one in each
// of its twins. The twins must be all the macros that the file asks for and does
// not define itself. The test is skipped with -short, or where spin or gcc is
// missing.
func Check(t *testing.T, file string, twins ...string) {
	need(t)
	text := read(t, file)
	if asked := missing(text); !slices.Equal(asked, slices.Sorted(slices.Values(twins))) {
		t.Errorf("%s asks for the macros %v, but its twins are %v", file, asked, twins)
	}
	Holds(t, file)
	for _, macro := range twins {
		t.Run(macro, func(t *testing.T) {
			if out := search(t, twin, file, macro); out.errors == 0 {
				t.Errorf("%s: no error is found without the guard, in %d states", file, out.states)
			}
		})
	}
}

// Holds searches all states of the model with the given macros, "NAME" or
// "NAME=value": there must be no error.
func Holds(t *testing.T, file string, macros ...string) {
	need(t)
	t.Run(strings.Join(append([]string{"holds"}, macros...), " "), func(t *testing.T) {
		out := search(t, whole, file, macros...)
		if out.errors != 0 || out.incomplete != "" {
			t.Errorf("%s: %d errors %s\n%s", file, out.errors, out.incomplete, out.text)
		}
	})
}

func need(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("searches of models are left out with -short")
	}
	for _, tool := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool, "is not installed")
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	conditional = regexp.MustCompile(`(?m)^#(?:ifdef|ifndef|if|elif)(.*)$`)
	word        = regexp.MustCompile(`[A-Za-z_]\w*`)
	definition  = regexp.MustCompile(`(?m)^#define (\w+)`)
)

// missing returns the macros that the model asks for and does not define, sorted.
func missing(model string) []string {
	defined := []string{"defined"}
	for _, m := range definition.FindAllStringSubmatch(model, -1) {
		defined = append(defined, m[1])
	}
	var names []string
	for _, m := range conditional.FindAllStringSubmatch(model, -1) {
		for _, name := range word.FindAllString(m[1], -1) {
			if !slices.Contains(defined, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// outcome is what a search has found.
type outcome struct {
	errors     int
	states     int
	incomplete string // why not all states were seen, if so
	text       string
}

var (
	errorsLine = regexp.MustCompile(`errors: (\d+)`)
	statesLine = regexp.MustCompile(`(\d+) states, stored`)
	errorLine  = regexp.MustCompile(`(?m)^pan:1: .*$`)
	stopped    = regexp.MustCompile(`(?i)max search depth too small|search not completed|out of memory|memlim`)
)

// search makes a checker of the model and runs it to its end, or to the first
// error. The files of it are gone after the test.
func search(t *testing.T, e effort, file string, macros ...string) outcome {
	t.Helper()
	path, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), searchTime)
	defer cancel()
	dir := t.TempDir()
	run := func(name string, args ...string) string {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	args := []string{"-a"}
	for _, m := range macros {
		args = append(args, "-D"+m)
	}
	run("spin", append(args, path)...)
	// A checker that the compiler makes better takes longer in all.
	run("gcc", "-O0", "-w", "-DSAFETY", "-DMEMLIM="+memoryMiB, "-o", "pan", "pan.c")
	begin := time.Now()
	text := run("./pan", e...) // its exit status is 0 even with errors
	out := outcome{errors: number(errorsLine, text), states: number(statesLine, text), incomplete: stopped.FindString(text), text: text}
	if out.errors < 0 || out.states < 0 {
		t.Fatalf("the search ended without a result:\n%s", text)
	}
	t.Logf("%d states, %v %s", out.states, time.Since(begin).Round(10*time.Millisecond), errorLine.FindString(text))
	return out
}

// number returns the number that the expression finds in text, or -1.
func number(re *regexp.Regexp, text string) int {
	if m := re.FindStringSubmatch(text); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			return n
		}
	}
	return -1
}

var (
	inline  = regexp.MustCompile(`(?m)^(?:inline|#define|proctype|active (?:\[\w+\] )?proctype) (\w+)`)
	leftOut = regexp.MustCompile(`Left out: ([^.,]*(?:,[^.,]*)*)`)
)

// Covers checks that one of the models in files has each function of the package
// in the folder dir that writes an atomic variable, by its name: as an inline, a
// macro or a process, or, with a reason, in the sentence of its comment that begins
// with "Left out:". So a new transition in the code is not forgotten in the model. The
// functions of sync/atomic, which only the helpers for race builds call, do not
// count.
func Covers(t *testing.T, dir string, files ...string) {
	var names []string
	for _, file := range files {
		model := read(t, file)
		for _, m := range inline.FindAllStringSubmatch(model, -1) {
			names = append(names, m[1])
		}
		if m := leftOut.FindStringSubmatch(model); m != nil {
			names = append(names, word.FindAllString(m[1], -1)...)
		}
	}
	writers := Writers(t, dir)
	if len(writers) == 0 {
		t.Errorf("%s: no function writes an atomic variable", dir)
	}
	for _, writer := range writers {
		if !slices.Contains(names, writer) {
			t.Errorf("%s writes an atomic variable, and is not in %v", writer, files)
		}
	}
}

// writes are the methods of the types of sync/atomic that write.
var writes = []string{"Store", "Swap", "CompareAndSwap", "Add", "And", "Or"}

// Writers returns the names of the functions and methods of the package in the
// folder dir that call a writing method of an atomic variable, sorted.
func Writers(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		imported := packagesOf(f)
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Body != nil && writesAtomic(fn.Body, imported) {
				names = append(names, fn.Name.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// packagesOf returns the names of the packages that the file imports.
func packagesOf(f *ast.File) []string {
	var names []string
	for _, spec := range f.Imports {
		path, _ := strconv.Unquote(spec.Path.Value) // the parser has seen to it
		name := filepath.Base(path)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names = append(names, name)
	}
	return names
}

func writesAtomic(body ast.Node, imported []string) (found bool) {
	ast.Inspect(body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains(writes, method.Sel.Name) {
			return true
		}
		if of, ok := method.X.(*ast.Ident); ok && slices.Contains(imported, of.Name) {
			return true // a function of a package
		}
		found = true
		return false
	})
	return found
}
