#ifdef __cplusplus
extern "C" {
#endif
int toy_scale(float *values, int count);
int toy_offset(float *values, int count);
#ifdef __cplusplus
}
#endif
