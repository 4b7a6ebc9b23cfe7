//! The one table of the packet filter: service addresses, published ports, isolation, the way out.
