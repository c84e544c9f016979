/** Runs in a thread. */
export default (job: { readonly payload: number }): number => job.payload * 2;
