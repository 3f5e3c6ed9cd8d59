"""Lower precisions: int8, calibration data, sensitivity, choice by measurement."""
