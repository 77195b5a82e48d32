/* An extension that was compiled against another struct layout than the library it meets. */
#include <Python.h>

typedef struct {
  PyObject *owner; /* the headers of then */
  Py_ssize_t dims;
} Then;
typedef struct {
  Py_ssize_t dims; /* the library of now */
  PyObject *owner;
} Now;

static PyObject *make(PyObject *self, PyObject *owner) {
  Now *made = malloc(sizeof *made);
  made->dims = 2;
  made->owner = Py_NewRef(owner);
  return PyCapsule_New(made, "tensor", NULL);
}

static PyObject *owner_name(PyObject *self, PyObject *capsule) {
  Then *tensor = PyCapsule_GetPointer(capsule, "tensor");
  PyObject *found = PyObject_GetAttrString(tensor->owner, "__name__");
  return found ? PyUnicode_FromObject(found) : NULL; /* no tail call: this frame stays */
}

static PyMethodDef methods[] = {
    {"make", make, METH_O, NULL}, {"owner_name", owner_name, METH_O, NULL}, {NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "layout", NULL, -1, methods};

PyMODINIT_FUNC PyInit_layout(void) { return PyModule_Create(&module); }
