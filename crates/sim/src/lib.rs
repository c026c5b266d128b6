//! Run the whole cloud in one thread, and break it.
