//! Seeded simulations of groups: random servers, failures, probes and requests against what must always hold. A seed
//! that fails is printed; `SALLYPORT_SEED` runs it again.
