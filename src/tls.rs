//! TLS between the two sides of an intercepted connection: with upstream first, as the client asked for it, then with the
//! client, as upstream answered. Whoever is in doubt leaves the connection alone.

pub mod authority;
