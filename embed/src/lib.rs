//! Text to vectors and token counts.
