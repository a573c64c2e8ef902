/* What a module that is linked as a WASI reactor wants to have called before anything else. */
void _initialize(void);
int was_initialized(void);

static int initialized;

void _initialize(void) { initialized++; }

int was_initialized(void) { return initialized; }
