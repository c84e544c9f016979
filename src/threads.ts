/** The threads of this process that run application code and that we know of. */
export const threads = { running: 0 };
