"""One module for each version of the tables. One that has been released is never changed."""
