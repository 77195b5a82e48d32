#include <Python.h>

#include "toy.h"

static PyObject *call(PyObject *argument, int (*kernel)(float *, int)) {
  float value = (float)PyFloat_AsDouble(argument);
  if (PyErr_Occurred()) return NULL;
  int error = kernel(&value, 1);
  if (error) return PyErr_Format(PyExc_RuntimeError, "CUDA error %d", error);
  return PyFloat_FromDouble(value);
}

static PyObject *scale(PyObject *self, PyObject *argument) { return call(argument, toy_scale); }
static PyObject *offset(PyObject *self, PyObject *argument) { return call(argument, toy_offset); }

static PyMethodDef methods[] = {
    {"scale", scale, METH_O, "Scale a number on the GPU."},
    {"offset", offset, METH_O, "Add to a number on the GPU."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernels", NULL, -1, methods};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModule_Create(&module); }
