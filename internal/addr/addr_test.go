package addr_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestOnePlaceOneType refuses, in the whole module and on every kind of system that
// has files of its own, casts that read a place as a pointer which is declared as a
// number, or the reverse, and pointers that are made from numbers elsewhere than here.
func TestOnePlaceOneType(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command")
	}
	for _, c := range []struct{ goos, goarch, tags string }{
		{"linux", "amd64", ""},
		{"linux", "amd64", "race"},
		{"linux", "386", "pymalloc_nolinkname,invariants"},
		{"darwin", "arm64", ""},
		{"windows", "amd64", ""},
		{"aix", "ppc64", ""},
		{"js", "wasm", ""},
	} {
		if testing.Short() && c.tags+c.goos != "linux" {
			continue // with -race, which takes ten times as long
		}
		t.Run(c.goos+"/"+c.goarch+"/"+c.tags, func(t *testing.T) {
			cmd := exec.Command(goTool, "list", "-e", "-deps", "-tags="+c.tags, "-json=ImportPath,Dir,GoFiles,TestGoFiles,XTestGoFiles,Module", "../../...")
			cmd.Env = append(os.Environ(), "GOOS="+c.goos, "GOARCH="+c.goarch, "CGO_ENABLED=0")
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("go list: %v", err)
			}
			m := newModule(c.goarch)
			for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
				var p struct {
					ImportPath, Dir                    string
					GoFiles, TestGoFiles, XTestGoFiles []string
					Module                             *struct{ Main bool }
				}
				if err := d.Decode(&p); err != nil {
					t.Fatal(err)
				}
				if p.Module == nil || !p.Module.Main {
					continue
				}
				for path, names := range map[string][]string{
					p.ImportPath: append(p.GoFiles, p.TestGoFiles...), p.ImportPath + "_test": p.XTestGoFiles,
				} {
					sources := map[string]any{}
					for _, name := range names {
						sources[filepath.Join(p.Dir, name)] = nil
					}
					faults, err := m.find(path, sources)
					if err != nil {
						t.Fatal(err)
					}
					for _, fault := range faults {
						t.Error(fault)
					}
				}
			}
			if len(m.packages) < 10 || m.conversions < 50 {
				t.Errorf("%d packages were read, with %d conversions to pointers", len(m.packages), m.conversions)
			}
		})
	}
}

// TestFind: the finder knows what it looks for from what is well.
func TestFind(t *testing.T) {
	const head = `package p
import ("sync/atomic"; "unsafe")
type header struct { refs uint64; next *header }
type link uintptr
var n uintptr; var p *int; var l link; var h header; var table [4]*int; var numbers [4]uintptr
var counter atomic.Uintptr; var pointer atomic.Pointer[int]; var u unsafe.Pointer
func cast(p unsafe.Pointer) **int { return (**int)(p) }
func where() unsafe.Pointer { return unsafe.Pointer(&numbers) }
func f(i int) any { return `
	for body, want := range map[string]bool{
		"*(*unsafe.Pointer)(unsafe.Pointer(&n))":                                    true,
		"*(*uintptr)(unsafe.Pointer(&p))":                                           true,
		"*(**header)(unsafe.Pointer(&l))":                                           true,
		"(*[2]*int)(unsafe.Pointer(&h))":                                            true, // its first word
		"atomic.LoadPointer((*unsafe.Pointer)(unsafe.Pointer(&numbers[i])))":        true,
		"(*uintptr)(unsafe.Add(unsafe.Pointer(&table), i))":                         true,
		"(*atomic.Pointer[int])(unsafe.Pointer(&counter))":                          true,
		"(*atomic.Uintptr)((unsafe.Pointer(&pointer)))":                             true,
		"unsafe.Pointer(n)":                                                         true,
		"unsafe.Pointer(uintptr(unsafe.Pointer(nil)) + n)":                          true,
		"unsafe.Pointer(uintptr(u) + n)":                                            true,
		"unsafe.Pointer(p)":                                                         false,
		"unsafe.Add(nil, i)":                                                        true,
		"unsafe.Add(unsafe.Pointer(nil), i)":                                        true,
		"func() any { q := unsafe.Pointer(&n); return *(*unsafe.Pointer)(q) }()":    true,
		"*(*any)(unsafe.Pointer(&numbers))":                                         true,
		"*(*uint64)(unsafe.Pointer(&h))":                                            false,
		"*(*int64)(unsafe.Pointer(&n))":                                             false,
		"(*[2]uint32)(unsafe.Pointer(&n))":                                          false,
		"(**int)(unsafe.Add(unsafe.Pointer(&table), i))":                            false,
		"(*header)(unsafe.Add(unsafe.Pointer(&h), i))":                              false,
		"*(**int)(unsafe.Pointer(&table[i]))":                                       false,
		"*(**int)(u)":                                                               false,
		"(*byte)(unsafe.Add(u, i))":                                                 false,
		"func() any { q := unsafe.Pointer(&table); return *(*unsafe.Pointer)(q) }":  false,
		"func() any { var q = unsafe.Pointer(&n); return *(*unsafe.Pointer)(q) }()": true,
		"*(*unsafe.Pointer)(unsafe.Pointer(uintptr(unsafe.Pointer(&n))))":           true,
		"(**int)(unsafe.Pointer(uintptr(unsafe.Pointer(&numbers)) + 8))":            true,
		"cast(unsafe.Pointer(&n))":                                                  true,
		"cast(unsafe.Pointer(&table))":                                              false,
		"(**int)(where())":                                                          true,
		"(*uintptr)(where())":                                                       false,
	} {
		faults, err := newModule("amd64").find("p", map[string]any{"p.go": head + body + " }"})
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if (len(faults) != 0) != want {
			t.Errorf("%s: %q", body, faults)
		}
	}
}

// module reads packages in an order in which none imports a later one. Of what they
// import from elsewhere it knows only what has places of interest.
type module struct {
	fset        *token.FileSet
	sizes       types.Sizes
	packages    map[string]*types.Package
	conversions int // to pointers, seen so far

	// By the type checker's name of a function: the places that it takes its parameters
	// for, and the place whose address it returns.
	takes   map[string]map[int][]types.Type
	returns map[string]types.Type
}

// elsewhere is what is known of other modules' packages.
var elsewhere = map[string]string{
	"sync/atomic": `package atomic
import "unsafe"
type Bool struct{ v uint32 }
type Int32 struct{ v int32 }
type Uint32 struct{ v uint32 }
type Int64 struct{ v int64 }
type Uint64 struct{ v uint64 }
type Uintptr struct{ v uintptr }
type Pointer[T any] struct{ v unsafe.Pointer }`,
	"sync": `package sync
type Mutex struct{ state int32; sema uint32 }
type RWMutex struct{ w Mutex; writer, reader uint32; count, wait int32 }`,
	"time": `package time
type Duration int64
type Time struct{ wall uint64; ext int64; loc *int }`,
}

func newModule(goarch string) *module {
	return &module{token.NewFileSet(), types.SizesFor("gc", goarch), map[string]*types.Package{"unsafe": types.Unsafe}, 0, map[string]map[int][]types.Type{}, map[string]types.Type{}}
}

// Import returns a package that was read, or what is known of another.
func (m *module) Import(path string) (*types.Package, error) {
	if p := m.packages[path]; p != nil {
		return p, nil
	}
	if text, ok := elsewhere[path]; ok {
		_, _, err := m.check(path, map[string]any{path: text})
		return m.packages[path], err
	}
	p := types.NewPackage(path, strings.TrimPrefix(path[strings.LastIndex(path, "/")+1:], "go-"))
	p.MarkComplete()
	return p, nil
}

// check reads a package: its files, and their texts where these are not in the files.
func (m *module) check(path string, sources map[string]any) ([]*ast.File, *types.Info, error) {
	var files []*ast.File
	for name, text := range sources {
		file, err := parser.ParseFile(m.fset, name, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, nil, err
		}
		files = append(files, file)
	}
	info := &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{},
	}
	// What is not known of other packages are errors, which say nothing.
	conf := types.Config{Importer: m, Sizes: m.sizes, Error: func(error) {}}
	m.packages[path], _ = conf.Check(path, m.fset, files, info)
	return files, info, nil
}

// finder looks for casts of one package.
type finder struct {
	*module
	*types.Info
	defined map[types.Object]ast.Expr // what local variables began as
	faults  []string
	isAddr  bool // the package is addr itself
}

func (m *module) find(path string, sources map[string]any) ([]string, error) {
	files, info, err := m.check(path, sources)
	if err != nil {
		return nil, err
	}
	f := &finder{m, info, map[types.Object]ast.Expr{}, nil, strings.HasSuffix(path, "/internal/addr")}
	for _, file := range files {
		ast.Inspect(file, f.define)
	}
	for _, file := range files {
		for _, d := range file.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && d.Body != nil {
				f.summarize(d)
			}
		}
	}
	for _, file := range files {
		ast.Inspect(file, f.look)
	}
	return f.faults, nil
}

func (f *finder) define(n ast.Node) bool {
	if s, ok := n.(*ast.AssignStmt); ok && s.Tok == token.DEFINE && len(s.Lhs) == len(s.Rhs) {
		for i, left := range s.Lhs {
			if name, ok := left.(*ast.Ident); ok && f.Defs[name] != nil {
				f.defined[f.Defs[name]] = s.Rhs[i]
			}
		}
	}
	if s, ok := n.(*ast.ValueSpec); ok && len(s.Names) == len(s.Values) {
		for i, name := range s.Names {
			f.defined[f.Defs[name]] = s.Values[i]
		}
	}
	return true
}

// summarize notes what a function does with pointers of its parameters, and returns.
func (f *finder) summarize(d *ast.FuncDecl) {
	fn, ok := f.Defs[d.Name].(*types.Func)
	if !ok {
		return
	}
	params, name := fn.Signature().Params(), fn.FullName()
	ast.Inspect(d.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.ReturnStmt:
			if len(n.Results) == 1 && isUnsafePointer(f.TypeOf(n.Results[0])) {
				if place, moved := f.origin(n.Results[0]); place != nil && !moved {
					f.returns[name] = place
				}
			}
		case *ast.CallExpr:
			to, ok := f.conversion(n)
			if !ok {
				break
			}
			arg, ok := ast.Unparen(n.Args[0]).(*ast.Ident)
			for i := range params.Len() {
				if ok && f.Uses[arg] == params.At(i) {
					if f.takes[name] == nil {
						f.takes[name] = map[int][]types.Type{}
					}
					f.takes[name][i] = append(f.takes[name][i], to)
				}
			}
		}
		return true
	})
}

// callee returns what the type checker calls the function that is called, or "".
func (f *finder) callee(call *ast.CallExpr) string {
	fun := ast.Unparen(call.Fun)
	if s, ok := fun.(*ast.SelectorExpr); ok {
		fun = s.Sel
	}
	if name, ok := fun.(*ast.Ident); ok {
		if fn, ok := f.Uses[name].(*types.Func); ok {
			return fn.Origin().FullName()
		}
	}
	return ""
}

func (f *finder) look(n ast.Node) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return true
	}
	if f.isUnsafeAdd(call) && !f.isAddr && f.isNil(call.Args[0]) {
		f.fault(call, "a pointer is made from a number: use addr.Pointer")
	}
	if !f.isAddr && f.isFromNumber(call) {
		f.fault(call, "a pointer is made from a number: use addr.Pointer")
	}
	if name := f.callee(call); name != "" {
		for i, places := range f.takes[name] {
			for _, to := range places {
				if i < len(call.Args) {
					f.taken(call, call.Args[i], to)
				}
			}
		}
	}
	if to, ok := f.conversion(call); ok {
		f.conversions++
		f.taken(call, call.Args[0], to)
	}
	return true
}

// taken is told that a pointer is taken for one to a place of the type to.
func (f *finder) taken(call *ast.CallExpr, pointer ast.Expr, to types.Type) {
	from, moved := f.origin(pointer)
	if from != nil && f.conflict(from, to, moved) {
		f.fault(call, fmt.Sprintf("a place of type %s is taken for one of %s: one of them has a pointer where the other has a number", from, to))
	}
}

func (f *finder) fault(at ast.Node, what string) {
	f.faults = append(f.faults, fmt.Sprintf("%s: %s", f.fset.Position(at.Pos()), what))
}

func (f *finder) isUnsafeAdd(call *ast.CallExpr) bool {
	s, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
	return ok && f.Uses[s.Sel] == types.Unsafe.Scope().Lookup("Add")
}

func (f *finder) isNil(e ast.Expr) bool {
	e = ast.Unparen(e)
	if c, ok := e.(*ast.CallExpr); ok && f.Types[c.Fun].IsType() {
		return f.isNil(c.Args[0])
	}
	return f.Types[e].IsNil()
}

// isFromNumber reports whether the call converts to unsafe.Pointer what is a number, or
// may be one in a generic function. That of a pointer's number is a sum, which
// unsafe.Add makes.
func (f *finder) isFromNumber(call *ast.CallExpr) bool {
	if tv := f.Types[call.Fun]; !tv.IsType() || !isUnsafePointer(tv.Type) || len(call.Args) != 1 {
		return false
	}
	t := f.TypeOf(call.Args[0])
	if t == nil {
		return false // not known
	}
	if p, generic := t.(*types.TypeParam); generic {
		core, ok := p.Constraint().Underlying().(*types.Interface)
		return !ok || core.NumEmbeddeds() > 0
	}
	b, basic := t.Underlying().(*types.Basic)
	return basic && b.Info()&types.IsInteger != 0
}

// conversion returns the type of the place if the call converts an unsafe.Pointer to a
// pointer to one.
func (f *finder) conversion(call *ast.CallExpr) (types.Type, bool) {
	tv := f.Types[call.Fun]
	if !tv.IsType() || len(call.Args) != 1 || !isUnsafePointer(f.TypeOf(call.Args[0])) {
		return nil, false
	}
	p, ok := tv.Type.Underlying().(*types.Pointer)
	if !ok {
		return nil, false
	}
	return p.Elem(), true
}

// origin returns the type of the place that an unsafe.Pointer was made of, nil if it
// cannot be seen, and whether something was added to it.
func (f *finder) origin(e ast.Expr) (place types.Type, moved bool) {
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		if from := f.defined[f.Uses[e]]; from != nil && isUnsafePointer(f.TypeOf(e)) {
			return f.origin(from)
		}
	case *ast.CallExpr:
		if f.isUnsafeAdd(e) {
			place, _ = f.origin(e.Args[0])
			return place, true
		}
		if place := f.returns[f.callee(e)]; place != nil {
			return place, false
		}
		if tv := f.Types[e.Fun]; tv.IsType() && isUnsafePointer(tv.Type) {
			if t := f.TypeOf(e.Args[0]); t != nil {
				if p, ok := t.Underlying().(*types.Pointer); ok {
					return p.Elem(), false
				}
			}
		}
	}
	return nil, false
}

func isUnsafePointer(t types.Type) bool {
	if t == nil {
		return false // not known
	}
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Kind() == types.UnsafePointer
}

// conflict reports whether two types that are of one place have a pointer and a number
// at the same offset; of those where something was added in between, whether one has
// only pointers and the other none.
func (f *finder) conflict(a, b types.Type, moved bool) bool {
	x, y := f.layout(a), f.layout(b)
	if moved {
		return x.pointers && !x.numbers && y.numbers && !y.pointers || y.pointers && !y.numbers && x.numbers && !x.pointers
	}
	for at, kind := range x.bytes {
		if other, ok := y.bytes[at]; ok && other != kind {
			return true
		}
	}
	return false
}

// layout is what the bytes of a type are.
type layout struct {
	unknown           bool           // from here on
	bytes             map[int64]bool // by offset: part of a pointer, or of a number
	pointers, numbers bool
}

const layoutBytes = 4096 // of larger types only the beginning is looked at

func (f *finder) layout(t types.Type) *layout {
	l := &layout{bytes: map[int64]bool{}}
	f.lay(l, t, 0)
	return l
}

func (f *finder) lay(l *layout, t types.Type, at int64) {
	if at >= layoutBytes || l.unknown {
		return
	}
	word := f.sizes.Sizeof(types.Typ[types.Uintptr])
	set := func(from, size int64, pointer bool) {
		for i := range size {
			l.bytes[from+i] = pointer
		}
		l.pointers, l.numbers = l.pointers || pointer, l.numbers || !pointer
	}
	if _, generic := t.(*types.TypeParam); generic {
		l.unknown = true
		return
	}
	switch u := t.Underlying().(type) {
	case *types.Basic:
		switch u.Kind() {
		case types.Invalid:
			l.unknown = true
		case types.UnsafePointer:
			set(at, word, true)
		case types.String:
			set(at, word, true)
			set(at+word, word, false)
		default:
			set(at, f.sizes.Sizeof(u), false)
		}
	case *types.Pointer, *types.Map, *types.Chan, *types.Signature:
		set(at, word, true)
	case *types.Interface:
		set(at, 2*word, true)
	case *types.Slice:
		set(at, word, true)
		set(at+word, 2*word, false)
	case *types.Array:
		if hasTypeParam(u.Elem()) {
			l.unknown = true
			return
		}
		size := f.sizes.Sizeof(u.Elem())
		for i := range u.Len() {
			if at+i*size >= layoutBytes || size == 0 {
				break
			}
			f.lay(l, u.Elem(), at+i*size)
		}
	case *types.Struct:
		var fields []*types.Var
		for i := range u.NumFields() {
			if hasTypeParam(u.Field(i).Type()) {
				break
			}
			fields = append(fields, u.Field(i))
		}
		for i, offset := range f.sizes.Offsetsof(fields) { // up to one whose size is not known
			f.lay(l, fields[i].Type(), at+offset)
		}
	}
}

// hasTypeParam reports whether the size of a type depends on a type parameter.
func hasTypeParam(t types.Type) bool {
	switch u := t.(type) {
	case *types.TypeParam:
		return true
	case *types.Array:
		return hasTypeParam(u.Elem())
	}
	switch u := t.Underlying().(type) {
	case *types.Array:
		return hasTypeParam(u.Elem())
	case *types.Struct:
		for i := range u.NumFields() {
			if hasTypeParam(u.Field(i).Type()) {
				return true
			}
		}
	}
	return false
}
