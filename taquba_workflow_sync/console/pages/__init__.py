"""The pages: what each reads of the store, and what its template is filled with."""
