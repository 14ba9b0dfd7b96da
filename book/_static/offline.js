// From a file, without a server, a browser may not fetch: the search then lists its finds without excerpts.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
