#include <Python.h>
#include <c10/toy.h>

extern "C" int toy_double(float *value);

static PyObject *doubled(PyObject *, PyObject *argument) {
  float value = (float)PyFloat_AsDouble(argument);
  if (int error = toy_double(&value)) return PyErr_Format(PyExc_RuntimeError, "CUDA error %d", error);
  return PyFloat_FromDouble(value);
}

static PyObject *devices(PyObject *, PyObject *) { return PyLong_FromLong(c10::device_count()); }

static PyMethodDef methods[] = {
    {"double", doubled, METH_O, "Double a number on the GPU."},
    {"devices", devices, METH_NOARGS, "Ask torch how many devices there are."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", NULL, -1, methods};

PyMODINIT_FUNC PyInit__C(void) { return PyModule_Create(&module); }
