//! What the gate's programs and user space share: map keys, values, reasons, layout version.
#![no_std]
