# SPDX-License-Identifier: Apache-2.0
"""A scripted API server at the HTTP seam, and what drives it: a real server cannot be made to fail on request."""
