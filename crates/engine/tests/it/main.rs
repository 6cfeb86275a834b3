//! The engine with its real models, called in process as the balancer calls it.

mod answers;
mod bad_input;
mod embeddings;
mod manage;
mod openai;
mod resume;
mod sharing;
mod support;
