// The work of objects.go through CPython's C API: a module, so that the python3 that
// the script is run by runs this too. capi.run(n, rounds) returns name and
// nanoseconds per operation.
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#include <time.h>

enum { max_rounds = 1000 };

static Py_ssize_t n;
static PyObject **keys, *x, *dict;

// Each returns 0, or -1 with an exception.

static int ints(void) {
	for (Py_ssize_t i = 0; i < n; i++) {
		PyObject *o = PyLong_FromLongLong(1000 + i);
		if (!o) return -1;
		Py_DECREF(o);
	}
	return 0;
}

static int floats(void) {
	for (Py_ssize_t i = 0; i < n; i++) {
		PyObject *o = PyFloat_FromDouble((double)i);
		if (!o) return -1;
		Py_DECREF(o);
	}
	return 0;
}

static int strs(void) {
	for (Py_ssize_t i = 0; i < n; i++) {
		PyObject *o = PyUnicode_FromStringAndSize("twelve bytes", 12);
		if (!o) return -1;
		Py_DECREF(o);
	}
	return 0;
}

static int lists(void) {
	for (Py_ssize_t i = 0; i < n; i++) {
		PyObject *o = PyList_New(0);
		if (!o) return -1;
		Py_DECREF(o);
	}
	return 0;
}

static int tuples(void) {
	for (Py_ssize_t i = 0; i < n; i++) {
		PyObject *o = PyTuple_Pack(2, x, x);
		if (!o) return -1;
		Py_DECREF(o);
	}
	return 0;
}

static int append(void) {
	PyObject *l = PyList_New(0);
	if (!l) return -1;
	for (Py_ssize_t i = 0; i < n; i++)
		if (PyList_Append(l, x) < 0) return -1;
	Py_DECREF(l);
	return 0;
}

static int dict_set(void) {
	Py_XDECREF(dict);
	if (!(dict = PyDict_New())) return -1;
	for (Py_ssize_t i = 0; i < n; i++)
		if (PyDict_SetItem(dict, keys[i], x) < 0) return -1;
	return 0;
}

static int dict_get(void) {
	for (Py_ssize_t i = 0; i < n; i++) {
		PyObject *o = PyDict_GetItemWithError(dict, keys[i]);
		if (!o) return -1;
		Py_INCREF(o); // a reference of its own, as Get returns
		Py_DECREF(o);
	}
	return 0;
}

static int dict_delete(void) {
	for (Py_ssize_t i = 0; i < n; i++)
		if (PyDict_DelItem(dict, keys[i]) < 0) return -1;
	return 0;
}

static int cycles(void) {
	for (Py_ssize_t i = 0; i < n / 4; i++) {
		PyObject *ring[4];
		for (int j = 0; j < 4; j++)
			if (!(ring[j] = PyList_New(0))) return -1;
		for (int j = 0; j < 4; j++)
			if (PyList_Append(ring[j], ring[(j + 1) % 4]) < 0) return -1;
		for (int j = 0; j < 4; j++)
			Py_DECREF(ring[j]);
	}
	PyGC_Collect();
	return 0;
}

static const struct {
	const char *name;
	int (*f)(void);
} work[] = {
	{"int", ints}, {"float", floats}, {"str", strs}, {"list", lists}, {"tuple", tuples}, {"append", append},
	{"dict set", dict_set}, {"dict get", dict_get}, {"dict delete", dict_delete}, {"cycles", cycles},
};

enum { works = sizeof work / sizeof work[0] };

static double spent[works][max_rounds];

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static PyObject *run(PyObject *self, PyObject *args) {
	int rounds;
	(void)self;
	if (!PyArg_ParseTuple(args, "ni", &n, &rounds)) return NULL;
	if (n < 4 || rounds < 1 || rounds > max_rounds) return PyErr_Format(PyExc_ValueError, "n %zd, rounds %d", n, rounds);
	if (!(keys = calloc((size_t)n, sizeof *keys))) return PyErr_NoMemory();
	if (!(x = PyLong_FromLong(1000))) return NULL;
	for (Py_ssize_t i = 0; i < n; i++)
		if (!(keys[i] = PyUnicode_FromFormat("key%zd", i))) return NULL;
	for (int r = 0; r < rounds; r++) {
		for (int w = 0; w < works; w++) {
			double start = now();
			if (work[w].f() < 0) return NULL;
			spent[w][r] = now() - start;
		}
	}
	PyObject *all = PyList_New(0);
	for (int w = 0; all && w < works; w++) {
		qsort(spent[w], (size_t)rounds, sizeof(double), ascending);
		PyObject *figure = Py_BuildValue("(sd)", work[w].name, spent[w][rounds / 2] / (double)n);
		if (!figure || PyList_Append(all, figure) < 0) return NULL;
		Py_DECREF(figure);
	}
	return all;
}

static PyMethodDef methods[] = {{"run", run, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "capi", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_capi(void) { return PyModule_Create(&module); }
