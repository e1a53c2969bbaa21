#!/usr/bin/env python3
"""A covering subset of the layout table; all of it: `make test-layouts`."""
import layouts

layouts.main()
