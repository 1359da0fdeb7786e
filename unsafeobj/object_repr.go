package unsafeobj

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
	"unsafe"
)

// Repr returns a borrowed object as Python's repr would print it: of a str a byte that is
// not UTF-8, \x85 say, is '\udc85', for '\x85' is the character. A container inside
// itself is [...], and so is what is nested too deep, or comes after 1 GiB of text: an
// object that is in several places is printed in each.
func Repr(o Object) string {
	if o.addr == 0 {
		return "<no object>"
	}
	h := at(o.addr)
	text := reprOf(h)
	settleRead(h, h)
	return text
}

func reprOf(h *header) string {
	if h.space < 0 {
		defer rlock(h).RUnlock()
	}
	p := printer{open: map[*header]struct{}{}, limit: maxText}
	p.object(h)
	return p.String()
}

// String is [Repr], for package fmt.
func (o Object) String() string { return Repr(o) }

type printer struct {
	strings.Builder
	open  map[*header]struct{} // containers that are being printed
	limit int                  // after so many bytes no more are opened
}

func (p *printer) object(h *header) {
	switch h.typ {
	case typeNone:
		p.WriteString("None")
	case typeBool:
		if (*intObject)(unsafe.Pointer(h)).v != 0 {
			p.WriteString("True")
		} else {
			p.WriteString("False")
		}
	case typeInt, typeBig:
		p.WriteString(bigOf(h).String())
	case typeFloat:
		p.WriteString(floatRepr(floatOf(h)))
	case typeString:
		p.quote(stringOf(h).value(), false)
	case typeBytes:
		p.WriteByte('b')
		p.quote(stringOf(h).value(), true)
	default:
		p.container(h)
	}
}

func (p *printer) container(h *header) {
	begin, end := "", ""
	switch h.typ {
	case typeTuple:
		if begin, end = "(", ")"; tupleOf(h).n == 1 {
			end = ",)"
		}
	case typeList:
		begin, end = "[", "]"
	case typeDict:
		begin, end = "{", "}"
	case typeSet:
		if begin, end = "{", "}"; tableOf(h).n == 0 {
			begin, end = "set(", ")"
		}
	default:
		p.instance(h)
		return
	}
	if _, inside := p.open[h]; inside || len(p.open) >= maxDepth || p.Len() > p.limit {
		if h.typ == typeSet {
			begin, end = "set(", ")"
		} else if h.typ == typeTuple {
			end = ")"
		}
		p.WriteString(begin + "..." + end)
		return
	}
	p.open[h] = struct{}{}
	p.WriteString(begin)
	switch h.typ {
	case typeDict, typeSet:
		p.entries(tableOf(h))
	default:
		for c, i := childrenOf(h), 0; c.left > 0; i++ {
			var x *header
			x, c = c.next()
			p.comma(i)
			p.object(x)
		}
	}
	p.WriteString(end)
	delete(p.open, h)
}

func (p *printer) comma(i int) {
	if i > 0 {
		p.WriteString(", ")
	}
}

func (p *printer) entries(o *tableObject) {
	n := 0
	for e, i := o.next(0); e != nil; e, i = o.next(i + 1) {
		p.comma(n)
		n++
		p.object(e.key.object())
		if o.typ == typeDict {
			p.WriteString(": ")
			p.object(e.value.object())
		}
	}
}

func (p *printer) instance(h *header) {
	t := typeOf(h)
	if t.repr != nil {
		if text, err := ask(h, h, func() string { return t.repr(payloadOf(h)) }); err == nil {
			p.WriteString(text)
			return
		}
	}
	fmt.Fprintf(p, "<%s object at %#x>", t.name, uintptr(unsafe.Pointer(h)))
}

// floatRepr is the shortest text that reads back as v; with an exponent where
// Python has one, and always seen to be a float.
func floatRepr(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "inf"
	case math.IsInf(v, -1):
		return "-inf"
	case math.IsNaN(v):
		return "nan"
	}
	if a := math.Abs(v); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(v, 'e', -1, 64)
	}
	text := strconv.FormatFloat(v, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// quote writes a Python literal, in single quotes unless there are some within and no
// double ones.
func (p *printer) quote(v string, asBytes bool) {
	q := byte('\'')
	if strings.Contains(v, "'") && !strings.Contains(v, `"`) {
		q = '"'
	}
	p.WriteByte(q)
	for len(v) > 0 {
		r, n := rune(v[0]), 1
		if !asBytes {
			r, n = utf8.DecodeRuneInString(v)
		}
		switch {
		case r == rune(q) || r == '\\':
			p.WriteByte('\\')
			p.WriteRune(r)
		case r == '\n':
			p.WriteString(`\n`)
		case r == '\r':
			p.WriteString(`\r`)
		case r == '\t':
			p.WriteString(`\t`)
		case r == utf8.RuneError && n == 1: // as Python has bytes that are not UTF-8
			fmt.Fprintf(p, `\udc%02x`, v[0])
		case r < 0x7f && r >= ' ', !asBytes && r > 0x7f && unicode.IsPrint(r):
			p.WriteRune(r)
		case r <= 0xff:
			fmt.Fprintf(p, `\x%02x`, r)
		case r <= 0xffff:
			fmt.Fprintf(p, `\u%04x`, r)
		default:
			fmt.Fprintf(p, `\U%08x`, r)
		}
		v = v[n:]
	}
	p.WriteByte(q)
}
