"""Readers of what comes in: MATLAB files, V1 and V2 trees and raw recordings."""
